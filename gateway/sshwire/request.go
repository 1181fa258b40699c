package sshwire

// Payloads of the channel requests that a session channel carries: RFC 4254 sections 6.2 to 6.10.
// Each parser takes ChannelRequest.Payload; each Append makes one.

// PtyRequest is "pty-req", section 6.2. Sizes in characters and in pixels; Modes is encoded as in section 8 and points into the payload.
type PtyRequest struct {
	Term    string
	Columns uint32
	Rows    uint32
	Width   uint32
	Height  uint32
	Modes   []byte
}

// ParsePtyRequest reads the payload of a pty-req.
func ParsePtyRequest(payload []byte) (PtyRequest, error) {
	f := &fields{rest: payload}
	m := PtyRequest{
		Term:    f.string("TERM"),
		Columns: f.uint32("width in characters"),
		Rows:    f.uint32("height in rows"),
		Width:   f.uint32("width in pixels"),
		Height:  f.uint32("height in pixels"),
		Modes:   f.bytes("terminal modes"),
	}
	return m, f.err("pty-req")
}

// Append appends the payload to dst.
func (m PtyRequest) Append(dst []byte) []byte {
	dst = appendUint32(appendUint32(appendString(dst, m.Term), m.Columns), m.Rows)
	return appendString(appendUint32(appendUint32(dst, m.Width), m.Height), m.Modes)
}

// WindowChange is "window-change", section 6.7. Sizes in characters and in pixels.
type WindowChange struct {
	Columns uint32
	Rows    uint32
	Width   uint32
	Height  uint32
}

// ParseWindowChange reads the payload of a window-change.
func ParseWindowChange(payload []byte) (WindowChange, error) {
	f := &fields{rest: payload}
	m := WindowChange{
		Columns: f.uint32("width in characters"),
		Rows:    f.uint32("height in rows"),
		Width:   f.uint32("width in pixels"),
		Height:  f.uint32("height in pixels"),
	}
	return m, f.err("window-change")
}

// Append appends the payload to dst.
func (m WindowChange) Append(dst []byte) []byte {
	return appendUint32(appendUint32(appendUint32(appendUint32(dst, m.Columns), m.Rows), m.Width), m.Height)
}

// EnvRequest is "env", section 6.4.
type EnvRequest struct {
	Name  string
	Value string
}

// ParseEnvRequest reads the payload of an env.
func ParseEnvRequest(payload []byte) (EnvRequest, error) {
	f := &fields{rest: payload}
	m := EnvRequest{Name: f.string("variable name"), Value: f.string("variable value")}
	return m, f.err("env")
}

// Append appends the payload to dst.
func (m EnvRequest) Append(dst []byte) []byte {
	return appendString(appendString(dst, m.Name), m.Value)
}

// ExecRequest is "exec", section 6.5. Command is the bytes as sent; they need not be UTF-8.
type ExecRequest struct{ Command string }

// ParseExecRequest reads the payload of an exec.
func ParseExecRequest(payload []byte) (ExecRequest, error) {
	f := &fields{rest: payload}
	m := ExecRequest{Command: f.string("command")}
	return m, f.err("exec")
}

// Append appends the payload to dst.
func (m ExecRequest) Append(dst []byte) []byte { return appendString(dst, m.Command) }

// SubsystemRequest is "subsystem", section 6.5.
type SubsystemRequest struct{ Name string }

// ParseSubsystemRequest reads the payload of a subsystem.
func ParseSubsystemRequest(payload []byte) (SubsystemRequest, error) {
	f := &fields{rest: payload}
	m := SubsystemRequest{Name: f.string("subsystem name")}
	return m, f.err("subsystem")
}

// Append appends the payload to dst.
func (m SubsystemRequest) Append(dst []byte) []byte { return appendString(dst, m.Name) }

// SignalRequest is "signal", section 6.9. Signal has no SIG prefix.
type SignalRequest struct{ Signal string }

// ParseSignalRequest reads the payload of a signal.
func ParseSignalRequest(payload []byte) (SignalRequest, error) {
	f := &fields{rest: payload}
	m := SignalRequest{Signal: f.string("signal name")}
	return m, f.err("signal")
}

// Append appends the payload to dst.
func (m SignalRequest) Append(dst []byte) []byte { return appendString(dst, m.Signal) }

// ExitStatus is "exit-status", section 6.10.
type ExitStatus struct{ Code uint32 }

// ParseExitStatus reads the payload of an exit-status.
func ParseExitStatus(payload []byte) (ExitStatus, error) {
	f := &fields{rest: payload}
	m := ExitStatus{Code: f.uint32("exit status")}
	return m, f.err("exit-status")
}

// Append appends the payload to dst.
func (m ExitStatus) Append(dst []byte) []byte { return appendUint32(dst, m.Code) }

// ExitSignal is "exit-signal", section 6.10. Signal has no SIG prefix.
type ExitSignal struct {
	Signal     string
	CoreDumped bool
	Text       string
	Language   string
}

// ParseExitSignal reads the payload of an exit-signal.
func ParseExitSignal(payload []byte) (ExitSignal, error) {
	f := &fields{rest: payload}
	m := ExitSignal{
		Signal:     f.string("signal name"),
		CoreDumped: f.bool("core dumped"),
		Text:       f.string("error message"),
		Language:   f.string("language tag"),
	}
	return m, f.err("exit-signal")
}

// Append appends the payload to dst.
func (m ExitSignal) Append(dst []byte) []byte {
	dst = appendBool(appendString(dst, m.Signal), m.CoreDumped)
	return appendString(appendString(dst, m.Text), m.Language)
}
