package sstp

import "fmt"

// Status is the status code in a Status Info attribute (2.2.8).
type Status uint32

// The status codes of 2.2.8, there with the prefix ATTRIB_STATUS_.
const (
	StatusNoError                     Status = 0x00
	StatusDuplicateAttribute          Status = 0x01
	StatusUnrecognizedAttribute       Status = 0x02
	StatusInvalidAttribValueLength    Status = 0x03
	StatusValueNotSupported           Status = 0x04
	StatusUnacceptedFrameReceived     Status = 0x05
	StatusRetryCountExceeded          Status = 0x06
	StatusInvalidFrameReceived        Status = 0x07
	StatusNegotiationTimeout          Status = 0x08
	StatusAttribNotSupportedInMsg     Status = 0x09
	StatusRequiredAttributeMissing    Status = 0x0a
	StatusStatusInfoNotSupportedInMsg Status = 0x0b
)

var statuses = [...]struct{ name, words string }{
	StatusNoError:                     {"NO_ERROR", "normal end"},
	StatusDuplicateAttribute:          {"DUPLICATE_ATTRIBUTE", "an attribute occurs twice"},
	StatusUnrecognizedAttribute:       {"UNRECOGNIZED_ATTRIBUTE", "an attribute is unknown"},
	StatusInvalidAttribValueLength:    {"INVALID_ATTRIB_VALUE_LENGTH", "an attribute has the wrong length"},
	StatusValueNotSupported:           {"VALUE_NOT_SUPPORTED", "a value was refused"},
	StatusUnacceptedFrameReceived:     {"UNACCEPTED_FRAME_RECEIVED", "a message is not allowed in this state"},
	StatusRetryCountExceeded:          {"RETRY_COUNT_EXCEEDED", "the request was refused too often"},
	StatusInvalidFrameReceived:        {"INVALID_FRAME_RECEIVED", "a message is unknown or malformed"},
	StatusNegotiationTimeout:          {"NEGOTIATION_TIMEOUT", "the negotiation took longer than 60 seconds"},
	StatusAttribNotSupportedInMsg:     {"ATTRIB_NOT_SUPPORTED_IN_MSG", "an attribute is missing or not allowed in its message"},
	StatusRequiredAttributeMissing:    {"REQUIRED_ATTRIBUTE_MISSING", "the encapsulated protocol is not stated"},
	StatusStatusInfoNotSupportedInMsg: {"STATUS_INFO_NOT_SUPPORTED_IN_MSG", "a request carries a status"},
}

// String is the name in 2.2.8 without its prefix, or the number in hex.
func (s Status) String() string {
	if uint64(s) < uint64(len(statuses)) {
		return statuses[s].name
	}
	return fmt.Sprintf("Status(0x%08x)", uint32(s))
}

// Words says in plain words what the status means. [StatusInfo.Words] is
// better where there is one.
func (s Status) Words() string {
	if uint64(s) < uint64(len(statuses)) {
		return statuses[s].words
	}
	return "no known reason"
}

// Words says in plain words what went wrong. A refused value in the Crypto
// Binding is the binding itself: nonce, certificate hash or MAC do not agree
// (3.3.5.2.3).
func (s StatusInfo) Words() string {
	if s.AttribID == AttrCryptoBinding && s.Status == StatusValueNotSupported {
		return "the crypto binding does not match"
	}
	return s.Status.Words()
}
