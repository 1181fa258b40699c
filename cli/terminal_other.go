//go:build !unix

package cli

import "context"

// ttyName is the terminal of the process, whatever its streams are.
const ttyName = "CONIN$"

// followSize does nothing where a terminal does not tell of its size.
func followSize(context.Context, int, func(cols, rows int)) (stop func()) { return func() {} }
