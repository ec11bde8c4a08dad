package ppp

import (
	"encoding/binary"
	"slices"
)

const (
	defaultMRU = 1500 // RFC 1661 §6.1
	minMRU     = 68   // an IPv4 host must take that much (RFC 791 §3.2)
	// maxOffered bounds the list in NoCommonAuthError.
	maxOffered = 16
)

// lcpOptions negotiates the options of LCP (RFC 1661 §6).
type lcpOptions struct {
	rand func([]byte)

	mru   int    // ours; 0: not asked for, which means 1500
	magic uint32 // ours; 0: not asked for
	loops int    // rounds in which the peer showed our own magic number

	methods []Method // acceptable, strongest first
	hint    int      // index of the method the next Nak asks for
	hinted  bool     // the last answer was such a Nak
	refused bool     // the peer's last Request had no acceptable method
	offered []string // what it offered so far

	method  Method // in force: what the peer demands of us; 0: nothing
	peerMRU int    // in force
}

func newLCPOptions(methods []Method, mru int, rand func([]byte)) *lcpOptions {
	if mru == defaultMRU || mru < minMRU || mru > 0xFFFF {
		mru = 0
	}
	return &lcpOptions{rand: rand, methods: methods, mru: mru, peerMRU: defaultMRU}
}

// newMagic draws a random number other than zero (RFC 1661 §6.4).
func (o *lcpOptions) newMagic() uint32 {
	var b [4]byte
	o.rand(b[:])
	return max(1, binary.BigEndian.Uint32(b[:]))
}

func mruOption(n int) Option {
	return Option{LCPMRU, binary.BigEndian.AppendUint16(nil, uint16(n))}
}

func magicOption(n uint32) Option {
	return Option{LCPMagic, binary.BigEndian.AppendUint32(nil, n)}
}

// request asks for little, because what is asked for can be refused and every
// round costs time: no Authentication-Protocol ever (that would ask the server
// to log on to us), no compression of fields, no ACCM.
func (o *lcpOptions) request() []Option {
	var opts []Option
	if o.mru != 0 {
		opts = append(opts, mruOption(o.mru))
	}
	if o.magic != 0 {
		opts = append(opts, magicOption(o.magic))
	}
	return opts
}

func (o *lcpOptions) judge(opts []Option, mayNak bool) (verdict, error) {
	var rejects, naks, naked []Option
	refused := false
	for _, opt := range opts {
		loops := o.loops
		better, ok := o.examine(opt)
		switch {
		case ok:
		case better.Type == 0:
			rejects = append(rejects, opt)
		case better.Type == LCPAuthProtocol:
			refused = true
			naks = addNak(naks, better)
		case o.loops > loops:
			naks = addNak(naks, better) // Max-Failure must not hide a loop, maxLoops ends it
		default:
			naks, naked = addNak(naks, better), append(naked, opt)
		}
	}
	if o.loops > maxLoops {
		return verdict{}, ErrLoop
	}
	o.refused = refused
	if refused && !mayNak && len(rejects) == 0 {
		return verdict{}, o.noCommonAuth()
	}
	if !mayNak {
		rejects = append(rejects, naked...)
	}
	v := decide(opts, rejects, naks)
	o.hinted = refused && v.code == ConfigureNak
	return v, nil
}

// addNak adds an option to a Nak. One of its type is enough: "None of the
// Configuration Options in this specification can be listed more than once"
// (RFC 1661 §6), and a Nak is longer than a malformed option it answers.
func addNak(naks []Option, better Option) []Option {
	same := func(o Option) bool { return o.Type == better.Type }
	if slices.ContainsFunc(naks, same) {
		return naks
	}
	return append(naks, better)
}

// examine looks at one option of the peer: acceptable; or, with a better
// option to put into a Nak; or, with the zero Option, to be rejected.
func (o *lcpOptions) examine(opt Option) (better Option, ok bool) {
	switch opt.Type {
	case LCPMRU:
		if len(opt.Data) == 2 && binary.BigEndian.Uint16(opt.Data) >= minMRU {
			return opt, true
		}
		return mruOption(defaultMRU), false
	case LCPACCM:
		return Option{}, len(opt.Data) == 4 // unused here, whatever it says
	case LCPAuthProtocol:
		return o.examineAuth(opt)
	case LCPMagic:
		return o.examineMagic(opt)
	}
	return Option{}, false
}

// examineAuth never lets the option be rejected, for that would ask for a link
// without authentication. Some servers take the hint of a Nak, others walk
// their own list whatever it says; a method that was hinted and not taken makes
// room for the next one.
func (o *lcpOptions) examineAuth(opt Option) (Option, bool) {
	if m, ok := MethodOf(opt); ok && slices.Contains(o.methods, m) {
		return opt, true
	}
	name := authName(opt)
	if !slices.Contains(o.offered, name) && len(o.offered) < maxOffered {
		o.offered = append(o.offered, name)
	}
	if o.hinted {
		o.hint = (o.hint + 1) % len(o.methods)
		o.hinted = false
	}
	return o.methods[o.hint].Option(), false
}

// examineMagic: "If the two Magic-Numbers are equal, it is possible, but not
// certain, that the link is looped-back"; "A Magic-Number of zero is illegal
// and MUST always be Nak'd" (RFC 1661 §6.4).
func (o *lcpOptions) examineMagic(opt Option) (Option, bool) {
	if len(opt.Data) != 4 {
		return magicOption(o.newMagic()), false
	}
	n := binary.BigEndian.Uint32(opt.Data)
	if n != 0 && n == o.magic {
		o.loops++
	}
	if n == 0 || n == o.magic {
		return magicOption(o.newMagic()), false
	}
	return opt, true
}

func (o *lcpOptions) acked(opts []Option) {
	o.method, o.peerMRU, o.refused, o.hinted = 0, defaultMRU, false, false
	for _, opt := range opts {
		switch opt.Type {
		case LCPMRU:
			o.peerMRU = int(binary.BigEndian.Uint16(opt.Data))
		case LCPAuthProtocol:
			o.method, _ = MethodOf(opt)
		}
	}
}

// nak takes an MRU up to what we must be able to receive anyway, and answers
// any magic number with a new random one. Options we did not ask for and do
// not want stay out.
func (o *lcpOptions) nak(opts []Option) error {
	for _, opt := range opts {
		switch {
		case opt.Type == LCPMRU && len(opt.Data) == 2:
			n := int(binary.BigEndian.Uint16(opt.Data))
			if n < minMRU || n > max(o.mru, defaultMRU) {
				n = 0
			}
			o.mru = n
		case opt.Type == LCPMagic && len(opt.Data) == 4:
			if o.magic != 0 && binary.BigEndian.Uint32(opt.Data) == o.magic {
				o.loops++
			}
			o.magic = o.newMagic()
		}
	}
	if o.loops > maxLoops {
		return ErrLoop
	}
	return nil
}

func (o *lcpOptions) reject(opts []Option) error {
	for _, opt := range opts {
		switch opt.Type {
		case LCPMRU:
			o.mru = 0
		case LCPMagic:
			o.magic = 0
		}
	}
	return nil
}

func (o *lcpOptions) noCommonAuth() error {
	return &NoCommonAuthError{Offered: slices.Clone(o.offered), Acceptable: slices.Clone(o.methods)}
}
