package sshwire

// Message numbers: RFC 4250 section 4.1.2. Numbers 1-49 belong to the transport layer (RFC 4253), 50-79 to
// authentication (RFC 4252, RFC 4256), 80-127 to the connection layer (RFC 4254).
const (
	MsgDisconnect     byte = 1
	MsgIgnore         byte = 2
	MsgUnimplemented  byte = 3
	MsgDebug          byte = 4
	MsgServiceRequest byte = 5
	MsgServiceAccept  byte = 6
	MsgExtInfo        byte = 7 // RFC 8308
	MsgKexInit        byte = 20
	MsgNewKeys        byte = 21
	MsgKexECDHInit    byte = 30 // also KEXDH_INIT and the hybrid exchanges' first message
	MsgKexECDHReply   byte = 31

	MsgUserauthRequest      byte = 50
	MsgUserauthFailure      byte = 51
	MsgUserauthSuccess      byte = 52
	MsgUserauthBanner       byte = 53
	MsgUserauthPKOK         byte = 60 // in a publickey exchange
	MsgUserauthPasswdChange byte = 60 // in a password exchange
	MsgUserauthInfoRequest  byte = 60 // in a keyboard-interactive exchange
	MsgUserauthInfoResponse byte = 61

	MsgGlobalRequest           byte = 80
	MsgRequestSuccess          byte = 81
	MsgRequestFailure          byte = 82
	MsgChannelOpen             byte = 90
	MsgChannelOpenConfirmation byte = 91
	MsgChannelOpenFailure      byte = 92
	MsgChannelWindowAdjust     byte = 93
	MsgChannelData             byte = 94
	MsgChannelExtendedData     byte = 95
	MsgChannelEOF              byte = 96
	MsgChannelClose            byte = 97
	MsgChannelRequest          byte = 98
	MsgChannelSuccess          byte = 99
	MsgChannelFailure          byte = 100

	// First and last message number of the connection layer.
	MsgConnectionFirst byte = 80
	MsgConnectionLast  byte = 127
)

// Reasons of CHANNEL_OPEN_FAILURE: RFC 4254 section 5.1.
const (
	OpenAdministrativelyProhibited uint32 = 1
	OpenConnectFailed              uint32 = 2
	OpenUnknownChannelType         uint32 = 3
	OpenResourceShortage           uint32 = 4
)

// ExtendedDataStderr is the only data type of EXTENDED_DATA that RFC 4254 section 5.2 defines.
const ExtendedDataStderr uint32 = 1

// A GlobalRequest is GLOBAL_REQUEST, RFC 4254 section 4. Payload is the type-specific rest.
type GlobalRequest struct {
	Type      string
	WantReply bool
	Payload   []byte
}

// ParseGlobalRequest reads a GLOBAL_REQUEST; Payload points into packet.
func ParseGlobalRequest(packet []byte) (GlobalRequest, error) {
	f := open(packet, MsgGlobalRequest)
	m := GlobalRequest{Type: f.name("request name"), WantReply: f.bool("want reply"), Payload: f.remainder()}
	return m, f.err("GLOBAL_REQUEST")
}

// Append appends the message to dst.
func (m GlobalRequest) Append(dst []byte) []byte {
	dst = appendString(append(dst, MsgGlobalRequest), m.Type)
	return append(appendBool(dst, m.WantReply), m.Payload...)
}

// A RequestSuccess answers a GlobalRequest: RFC 4254 section 4. Payload is the type-specific rest.
type RequestSuccess struct{ Payload []byte }

// ParseRequestSuccess reads a REQUEST_SUCCESS; Payload points into packet.
func ParseRequestSuccess(packet []byte) (RequestSuccess, error) {
	f := open(packet, MsgRequestSuccess)
	m := RequestSuccess{Payload: f.remainder()}
	return m, f.err("REQUEST_SUCCESS")
}

// Append appends the message to dst.
func (m RequestSuccess) Append(dst []byte) []byte {
	return append(append(dst, MsgRequestSuccess), m.Payload...)
}

// A RequestFailure refuses a GlobalRequest: RFC 4254 section 4.
type RequestFailure struct{}

// ParseRequestFailure checks a REQUEST_FAILURE.
func ParseRequestFailure(packet []byte) (RequestFailure, error) {
	return RequestFailure{}, open(packet, MsgRequestFailure).err("REQUEST_FAILURE")
}

// Append appends the message to dst.
func (m RequestFailure) Append(dst []byte) []byte { return append(dst, MsgRequestFailure) }

// A ChannelOpen is CHANNEL_OPEN, RFC 4254 section 5.1. Sender is the opener's channel number, Window and
// MaxPacket are what it is ready to receive, Payload is the type-specific rest.
type ChannelOpen struct {
	Type      string
	Sender    uint32
	Window    uint32
	MaxPacket uint32
	Payload   []byte
}

// ParseChannelOpen reads a CHANNEL_OPEN; Payload points into packet.
func ParseChannelOpen(packet []byte) (ChannelOpen, error) {
	f := open(packet, MsgChannelOpen)
	m := ChannelOpen{
		Type:      f.name("channel type"),
		Sender:    f.uint32("sender channel"),
		Window:    f.uint32("initial window size"),
		MaxPacket: f.uint32("maximum packet size"),
		Payload:   f.remainder(),
	}
	return m, f.err("CHANNEL_OPEN")
}

// Append appends the message to dst.
func (m ChannelOpen) Append(dst []byte) []byte {
	dst = appendString(append(dst, MsgChannelOpen), m.Type)
	dst = appendUint32(appendUint32(appendUint32(dst, m.Sender), m.Window), m.MaxPacket)
	return append(dst, m.Payload...)
}

// A ChannelOpenConfirmation is CHANNEL_OPEN_CONFIRMATION, RFC 4254 section 5.1. Recipient is the opener's channel
// number, Sender the confirmer's.
type ChannelOpenConfirmation struct {
	Recipient uint32
	Sender    uint32
	Window    uint32
	MaxPacket uint32
	Payload   []byte
}

// ParseChannelOpenConfirmation reads a CHANNEL_OPEN_CONFIRMATION; Payload points into packet.
func ParseChannelOpenConfirmation(packet []byte) (ChannelOpenConfirmation, error) {
	f := open(packet, MsgChannelOpenConfirmation)
	m := ChannelOpenConfirmation{
		Recipient: f.uint32("recipient channel"),
		Sender:    f.uint32("sender channel"),
		Window:    f.uint32("initial window size"),
		MaxPacket: f.uint32("maximum packet size"),
		Payload:   f.remainder(),
	}
	return m, f.err("CHANNEL_OPEN_CONFIRMATION")
}

// Append appends the message to dst.
func (m ChannelOpenConfirmation) Append(dst []byte) []byte {
	dst = appendUint32(appendUint32(append(dst, MsgChannelOpenConfirmation), m.Recipient), m.Sender)
	return append(appendUint32(appendUint32(dst, m.Window), m.MaxPacket), m.Payload...)
}

// A ChannelOpenFailure is CHANNEL_OPEN_FAILURE, RFC 4254 section 5.1. Reason is one of the Open… constants,
// Language a tag of RFC 3066, mostly empty.
type ChannelOpenFailure struct {
	Recipient uint32
	Reason    uint32
	Text      string
	Language  string
}

// ParseChannelOpenFailure reads a CHANNEL_OPEN_FAILURE.
func ParseChannelOpenFailure(packet []byte) (ChannelOpenFailure, error) {
	f := open(packet, MsgChannelOpenFailure)
	m := ChannelOpenFailure{
		Recipient: f.uint32("recipient channel"),
		Reason:    f.uint32("reason code"),
		Text:      f.string("description"),
		Language:  f.string("language tag"),
	}
	return m, f.err("CHANNEL_OPEN_FAILURE")
}

// Append appends the message to dst.
func (m ChannelOpenFailure) Append(dst []byte) []byte {
	dst = appendUint32(appendUint32(append(dst, MsgChannelOpenFailure), m.Recipient), m.Reason)
	return appendString(appendString(dst, m.Text), m.Language)
}

// A ChannelWindowAdjust is CHANNEL_WINDOW_ADJUST, RFC 4254 section 5.2: Bytes more may be sent to the sender of this message.
type ChannelWindowAdjust struct {
	Recipient uint32
	Bytes     uint32
}

// ParseChannelWindowAdjust reads a CHANNEL_WINDOW_ADJUST.
func ParseChannelWindowAdjust(packet []byte) (ChannelWindowAdjust, error) {
	f := open(packet, MsgChannelWindowAdjust)
	m := ChannelWindowAdjust{Recipient: f.uint32("recipient channel"), Bytes: f.uint32("bytes to add")}
	return m, f.err("CHANNEL_WINDOW_ADJUST")
}

// Append appends the message to dst.
func (m ChannelWindowAdjust) Append(dst []byte) []byte {
	return appendUint32(appendUint32(append(dst, MsgChannelWindowAdjust), m.Recipient), m.Bytes)
}

// A ChannelData is CHANNEL_DATA, RFC 4254 section 5.2.
type ChannelData struct {
	Recipient uint32
	Data      []byte
}

// ParseChannelData reads a CHANNEL_DATA; Data points into packet.
func ParseChannelData(packet []byte) (ChannelData, error) {
	f := open(packet, MsgChannelData)
	m := ChannelData{Recipient: f.uint32("recipient channel"), Data: f.bytes("data")}
	return m, f.err("CHANNEL_DATA")
}

// Append appends the message to dst.
func (m ChannelData) Append(dst []byte) []byte {
	return appendString(appendUint32(append(dst, MsgChannelData), m.Recipient), m.Data)
}

// A ChannelExtendedData is CHANNEL_EXTENDED_DATA, RFC 4254 section 5.2. Type is ExtendedDataStderr in practice.
type ChannelExtendedData struct {
	Recipient uint32
	Type      uint32
	Data      []byte
}

// ParseChannelExtendedData reads a CHANNEL_EXTENDED_DATA; Data points into packet.
func ParseChannelExtendedData(packet []byte) (ChannelExtendedData, error) {
	f := open(packet, MsgChannelExtendedData)
	m := ChannelExtendedData{
		Recipient: f.uint32("recipient channel"),
		Type:      f.uint32("data type code"),
		Data:      f.bytes("data"),
	}
	return m, f.err("CHANNEL_EXTENDED_DATA")
}

// Append appends the message to dst.
func (m ChannelExtendedData) Append(dst []byte) []byte {
	dst = appendUint32(appendUint32(append(dst, MsgChannelExtendedData), m.Recipient), m.Type)
	return appendString(dst, m.Data)
}

// A ChannelEOF is CHANNEL_EOF, RFC 4254 section 5.3: its sender sends no more data on the channel.
type ChannelEOF struct{ Recipient uint32 }

// ParseChannelEOF reads a CHANNEL_EOF.
func ParseChannelEOF(packet []byte) (ChannelEOF, error) {
	r, err := parseRecipient(packet, MsgChannelEOF, "CHANNEL_EOF")
	return ChannelEOF{Recipient: r}, err
}

// Append appends the message to dst.
func (m ChannelEOF) Append(dst []byte) []byte {
	return appendUint32(append(dst, MsgChannelEOF), m.Recipient)
}

// A ChannelClose is CHANNEL_CLOSE, RFC 4254 section 5.3.
type ChannelClose struct{ Recipient uint32 }

// ParseChannelClose reads a CHANNEL_CLOSE.
func ParseChannelClose(packet []byte) (ChannelClose, error) {
	r, err := parseRecipient(packet, MsgChannelClose, "CHANNEL_CLOSE")
	return ChannelClose{Recipient: r}, err
}

// Append appends the message to dst.
func (m ChannelClose) Append(dst []byte) []byte {
	return appendUint32(append(dst, MsgChannelClose), m.Recipient)
}

// A ChannelRequest is CHANNEL_REQUEST, RFC 4254 section 5.4. Payload is the type-specific rest (see request.go).
type ChannelRequest struct {
	Recipient uint32
	Type      string
	WantReply bool
	Payload   []byte
}

// ParseChannelRequest reads a CHANNEL_REQUEST; Payload points into packet.
func ParseChannelRequest(packet []byte) (ChannelRequest, error) {
	f := open(packet, MsgChannelRequest)
	m := ChannelRequest{
		Recipient: f.uint32("recipient channel"),
		Type:      f.name("request type"),
		WantReply: f.bool("want reply"),
		Payload:   f.remainder(),
	}
	return m, f.err("CHANNEL_REQUEST")
}

// Append appends the message to dst.
func (m ChannelRequest) Append(dst []byte) []byte {
	dst = appendString(appendUint32(append(dst, MsgChannelRequest), m.Recipient), m.Type)
	return append(appendBool(dst, m.WantReply), m.Payload...)
}

// A ChannelSuccess answers a ChannelRequest: RFC 4254 section 5.4.
type ChannelSuccess struct{ Recipient uint32 }

// ParseChannelSuccess reads a CHANNEL_SUCCESS.
func ParseChannelSuccess(packet []byte) (ChannelSuccess, error) {
	r, err := parseRecipient(packet, MsgChannelSuccess, "CHANNEL_SUCCESS")
	return ChannelSuccess{Recipient: r}, err
}

// Append appends the message to dst.
func (m ChannelSuccess) Append(dst []byte) []byte {
	return appendUint32(append(dst, MsgChannelSuccess), m.Recipient)
}

// A ChannelFailure refuses a ChannelRequest: RFC 4254 section 5.4.
type ChannelFailure struct{ Recipient uint32 }

// ParseChannelFailure reads a CHANNEL_FAILURE.
func ParseChannelFailure(packet []byte) (ChannelFailure, error) {
	r, err := parseRecipient(packet, MsgChannelFailure, "CHANNEL_FAILURE")
	return ChannelFailure{Recipient: r}, err
}

// Append appends the message to dst.
func (m ChannelFailure) Append(dst []byte) []byte {
	return appendUint32(append(dst, MsgChannelFailure), m.Recipient)
}

// parseRecipient reads a message that holds a recipient channel and nothing else.
func parseRecipient(packet []byte, number byte, message string) (uint32, error) {
	f := open(packet, number)
	r := f.uint32("recipient channel")
	return r, f.err(message)
}
