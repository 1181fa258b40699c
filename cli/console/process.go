package console

import "strconv"

// Process is what the process that runs a site holds. What keeps growing while
// the number of sessions does not is a leak.
type Process struct {
	Goroutines  int   `json:"goroutines"`
	Descriptors int   `json:"descriptors,omitzero"` // open files and connections; absent where the system does not tell
	Memory      int64 `json:"memory,omitzero"`      // resident bytes; absent where the system does not tell
}

// String is for people: memory and open files, which are what runs out.
func (p Process) String() string {
	s := strconv.Itoa(p.Goroutines) + " goroutines"
	if p.Descriptors > 0 {
		s = strconv.FormatInt(p.Memory>>20, 10) + " MiB, " + strconv.Itoa(p.Descriptors) + " descriptors, " + s
	}
	return s
}
