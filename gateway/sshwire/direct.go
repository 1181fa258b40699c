package sshwire

// DirectTCPIP is the payload of a CHANNEL_OPEN of type "direct-tcpip": RFC 4254 section 7.2. Host and Port are where the
// client wants to go, Origin and OriginPort where it says that the connection came from.
type DirectTCPIP struct {
	Host       string
	Port       uint32
	Origin     string
	OriginPort uint32
}

// ParseDirectTCPIP reads ChannelOpen.Payload.
func ParseDirectTCPIP(payload []byte) (DirectTCPIP, error) {
	f := &fields{rest: payload}
	m := DirectTCPIP{
		Host: f.string("host"), Port: f.uint32("port"), Origin: f.string("originator address"), OriginPort: f.uint32("originator port"),
	}
	return m, f.err("direct-tcpip")
}

// Append appends the payload to dst.
func (m DirectTCPIP) Append(dst []byte) []byte {
	dst = appendUint32(appendString(dst, m.Host), m.Port)
	return appendUint32(appendString(dst, m.Origin), m.OriginPort)
}
