package ppp

// state is a state of the option negotiation automaton (RFC 1661 §4.2), in the
// RFC's order and with its numbers.
type state uint8

const (
	initial  state = iota // 0: the lower layer is down, nobody wants us open
	starting              // 1: open is wanted, the lower layer is down
	closed                // 2: the lower layer is up, nobody wants us open
	stopped               // 3: open is wanted, the peer ended it or never answered
	closing               // 4: Terminate-Request sent on our own wish
	stopping              // 5: Terminate-Request sent or answered on the peer's
	reqSent               // 6: Configure-Request sent
	ackRcvd               // 7: and acknowledged by the peer
	ackSent               // 8: the peer's Request acknowledged by us, ours not yet
	opened                // 9: both acknowledged
	never                 // not a state: the event cannot happen there
)

// timed reports whether the Restart timer runs in the state (RFC 1661 §4.1:
// "The states in which the Restart timer is running are identifiable by the
// presence of TO events").
func (s state) timed() bool { return s >= closing && s <= ackSent }

var stateNames = [...]string{"Initial", "Starting", "Closed", "Stopped", "Closing",
	"Stopping", "ReqSent", "AckRcvd", "AckSent", "Opened", "-"}

func (s state) String() string { return stateNames[s] }

// event is what moves the automaton (RFC 1661 §4.3), in the RFC's order.
type event uint8

const (
	evUp       event = iota // the lower layer is ready
	evDown                  // the lower layer is gone
	evOpen                  // opening is wanted
	evClose                 // closing is wanted
	evTOPlus                // timeout with restart counter > 0
	evTOMinus               // timeout with the counter used up
	evRCRPlus               // received an acceptable Configure-Request
	evRCRMinus              // received an unacceptable one
	evRCA                   // received Configure-Ack
	evRCN                   // received Configure-Nak or -Reject
	evRTR                   // received Terminate-Request
	evRTA                   // received Terminate-Ack
	evRUC                   // received an unknown code
	evRXJPlus               // received a tolerable Code- or Protocol-Reject
	evRXJMinus              // received a catastrophic one
	evRXR                   // received Echo-Request, Echo-Reply or Discard-Request
	numEvents
)

// actions is a set of actions (RFC 1661 §4.4). The bits stand in the order in
// which actions of one cell are done; it is the order the RFC writes them in.
type actions uint16

const (
	tld actions = 1 << iota // this layer down
	tls                     // this layer started
	irc                     // initialise the restart count
	zrc                     // zero the restart count
	scr                     // send Configure-Request
	sca                     // send Configure-Ack
	scn                     // send Configure-Nak or -Reject
	str                     // send Terminate-Request
	sta                     // send Terminate-Ack
	scj                     // send Code-Reject
	ser                     // send Echo-Reply
	tlu                     // this layer up
	tlf                     // this layer finished
)

// cell is one cell of the table: what to do, and the next state.
type cell struct {
	do   actions
	next state
}

// no is a cell the RFC marks "-": such an event is ignored.
var no = cell{next: never}

// table is the state transition table of RFC 1661 §4.1. Of its options we take
// neither "restart" (r) nor "passive" (p); crossed replies (x) never reach it,
// since a reply is only taken while a Request waits for one.
var table = [numEvents][never]cell{
	//           Initial        Starting          Closed      Stopped                     Closing      Stopping     ReqSent                AckRcvd           AckSent                Opened
	evUp:       {{0, closed}, {irc | scr, reqSent}, no, no, no, no, no, no, no, no},
	evDown:     {no, no, {0, initial}, {tls, starting}, {0, initial}, {0, starting}, {0, starting}, {0, starting}, {0, starting}, {tld, starting}},
	evOpen:     {{tls, starting}, {0, starting}, {irc | scr, reqSent}, {0, stopped}, {0, stopping}, {0, stopping}, {0, reqSent}, {0, ackRcvd}, {0, ackSent}, {0, opened}},
	evClose:    {{0, initial}, {tlf, initial}, {0, closed}, {0, closed}, {0, closing}, {0, closing}, {irc | str, closing}, {irc | str, closing}, {irc | str, closing}, {tld | irc | str, closing}},
	evTOPlus:   {no, no, no, no, {str, closing}, {str, stopping}, {scr, reqSent}, {scr, reqSent}, {scr, ackSent}, no},
	evTOMinus:  {no, no, no, no, {tlf, closed}, {tlf, stopped}, {tlf, stopped}, {tlf, stopped}, {tlf, stopped}, no},
	evRCRPlus:  {no, no, {sta, closed}, {irc | scr | sca, ackSent}, {0, closing}, {0, stopping}, {sca, ackSent}, {sca | tlu, opened}, {sca, ackSent}, {tld | scr | sca, ackSent}},
	evRCRMinus: {no, no, {sta, closed}, {irc | scr | scn, reqSent}, {0, closing}, {0, stopping}, {scn, reqSent}, {scn, ackRcvd}, {scn, reqSent}, {tld | scr | scn, reqSent}},
	evRCA:      {no, no, {sta, closed}, {sta, stopped}, {0, closing}, {0, stopping}, {irc, ackRcvd}, {scr, reqSent}, {irc | tlu, opened}, {tld | scr, reqSent}},
	evRCN:      {no, no, {sta, closed}, {sta, stopped}, {0, closing}, {0, stopping}, {irc | scr, reqSent}, {scr, reqSent}, {irc | scr, ackSent}, {tld | scr, reqSent}},
	evRTR:      {no, no, {sta, closed}, {sta, stopped}, {sta, closing}, {sta, stopping}, {sta, reqSent}, {sta, reqSent}, {sta, reqSent}, {tld | zrc | sta, stopping}},
	evRTA:      {no, no, {0, closed}, {0, stopped}, {tlf, closed}, {tlf, stopped}, {0, reqSent}, {0, reqSent}, {0, ackSent}, {tld | scr, reqSent}},
	evRUC:      {no, no, {scj, closed}, {scj, stopped}, {scj, closing}, {scj, stopping}, {scj, reqSent}, {scj, ackRcvd}, {scj, ackSent}, {scj, opened}},
	evRXJPlus:  {no, no, {0, closed}, {0, stopped}, {0, closing}, {0, stopping}, {0, reqSent}, {0, reqSent}, {0, ackSent}, {0, opened}},
	evRXJMinus: {no, no, {tlf, closed}, {tlf, stopped}, {tlf, closed}, {tlf, stopped}, {tlf, stopped}, {tlf, stopped}, {tlf, stopped}, {tld | irc | str, stopping}},
	evRXR:      {no, no, {0, closed}, {0, stopped}, {0, closing}, {0, stopping}, {0, reqSent}, {0, ackRcvd}, {0, ackSent}, {ser, opened}},
}

// on looks the event up; ok is false for one that cannot happen in s.
func (s state) on(e event) (do actions, next state, ok bool) {
	c := table[e][s]
	return c.do, c.next, c.next != never
}
