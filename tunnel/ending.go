package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

const (
	// terminateTimeout bounds the wait for the Ack to our Terminate-Request.
	terminateTimeout = 3 * time.Second
	// closeTimeout bounds an orderly end, up to the close of TLS.
	closeTimeout = 6 * time.Second
	// cancelTimeout bounds it when the caller has already given up.
	cancelTimeout = time.Second
	// lastWordsTimeout bounds what is read after a write has failed.
	lastWordsTimeout = time.Second
	// lingerTimeout bounds the wait for the server's close of TCP when there is
	// to be another session: until then SoftEther, which takes 0.4 to 2.7 s,
	// has the old one, and gives the new one another address.
	lingerTimeout = 4 * time.Second
	// bindingWindow is how soon after Call Connected an end means that the
	// server refused the crypto binding: they all check it on receipt.
	bindingWindow = 3 * time.Second
)

// Close ends the session in order and waits until nothing of it is left.
func (s *Session) Close() error {
	s.hasten()
	s.finish()
	return nil
}

// hasten asks for the end. One that is under way has its words and their
// answers still, but waits for nothing beyond them.
func (s *Session) hasten() { s.quitted.Do(func() { close(s.quit) }) }

// finish ends the session, unless Run does, and waits until nothing of it is left.
func (s *Session) finish() {
	if s.running.CompareAndSwap(false, true) {
		s.end(closeTimeout)
	}
	<-s.ended
}

// leave is Close for who comes again: it waits until the server, too, is done
// with the session, unless ctx ends.
func (s *Session) leave(ctx context.Context) {
	defer context.AfterFunc(ctx, s.hasten)()
	s.linger = true // the loop is not running
	s.finish()
}

// Break ends the session at once, without the words of an orderly end: the
// way to the server is known to be gone. Run returns cause.
func (s *Session) Break(cause error) {
	select {
	case s.breaks <- cause:
	default:
	}
}

// over tells whether the session can't go on.
func (s *Session) over() bool { return s.cause != nil || s.call.Done() }

// note keeps the first cause of an end.
func (s *Session) note() {
	if s.cause != nil {
		return
	}
	// That its lower layer is down is the call's news to the link, not a cause.
	if err := s.link.Err(); err != nil && !errors.Is(err, ppp.ErrDown) {
		s.cause = s.reasoned(err)
		if errors.Is(err, ppp.ErrEchoTimeout) {
			s.cut(err) // who does not answer reads no farewell either
		}
		return
	}
	err := s.call.Err()
	switch {
	case s.bindingRefused(err):
		s.cause = &BindingError{Err: err}
	case isA[*sstp.DisconnectError](err), abortedByPeer(err):
		s.cause = s.reasoned(s.unanswered(err))
	default:
		s.cause = err
	}
}

// unanswered adds to an end by the server that it came instead of an answer to
// the credentials, if so: the server refused them, and must not get them again.
func (s *Session) unanswered(err error) error {
	if refused := s.link.Unanswered(); refused != nil {
		return fmt.Errorf("%w: %w", refused, err)
	}
	return err
}

// announcedWindow is how far from its announced end a session may end for that
// reason. RFC 1570 counts seconds; the server may be busy.
const announcedWindow = 5 * time.Second

// reasoned adds to an end by the server what is known of its reason: idle and
// session timeouts are no faults. Most servers do not tell the two apart.
func (s *Session) reasoned(err error) error {
	reason := ppp.ReasonNone
	if e, ok := errors.AsType[*ppp.TerminatedError](err); ok {
		reason = e.Reason()
	} else if !isA[*sstp.DisconnectError](err) {
		return err
	}
	if reason == ppp.ReasonNone && !s.announced.IsZero() && time.Since(s.announced).Abs() < announcedWindow {
		reason = ppp.ReasonTimeLimit
	}
	switch reason {
	case ppp.ReasonIdle:
		return fmt.Errorf("%w: %w", ErrIdleTimeout, err)
	case ppp.ReasonTimeLimit:
		return fmt.Errorf("%w: %w", ErrSessionTimeout, err)
	}
	return err
}

// bindingRefused tells whether an end looks like the answer to our Call
// Connected: RRAS and accel-ppp abort with a status, others just close.
func (s *Session) bindingRefused(err error) bool {
	if err == nil || s.connected.IsZero() || s.info.MTU != 0 {
		return false // not sent yet, or the server has gone on since
	}
	var abort *sstp.AbortError
	if errors.As(err, &abort) {
		return abort.BindingRefused()
	}
	closed := errors.Is(err, sstp.ErrLinkLost) && !errors.Is(err, sstp.ErrFraming)
	return closed && time.Since(s.connected) < bindingWindow
}

// outdated tells whether a renegotiation gave what Info and the stack above
// can't follow: another address, or an MTU too small for the packets of now.
func (s *Session) outdated() error {
	v4, ok := s.link.IPv4()
	switch {
	case ok && s.info.IPv4.Addr.IsValid() && v4.Addr != s.info.IPv4.Addr:
		return ErrAddressChanged
	case s.link.MTU() < s.info.MTU:
		return ErrMTUChanged
	}
	return nil
}

// hungUp takes the end of what can be read. A close_notify is the server's doing;
// a bare end of TCP, which crypto/tls may take for one, can be the network's.
func (s *Session) hungUp() {
	err := s.readErr
	left := errors.Is(err, io.EOF) && !s.raw.ended
	if left && s.cause == nil && s.call.Err() == nil && s.link.Unanswered() != nil {
		s.cause = s.unanswered(err)
	}
	s.lost(err)
}

// lost takes the end of the transport to both layers.
func (s *Session) lost(err error) {
	now := time.Now()
	s.call.LowerDown(now, err)
	s.link.Down(now)
}

// cut ends the session without another word to the server.
func (s *Session) cut(err error) {
	if s.cause == nil {
		s.cause = err
	}
	s.lost(err)
	s.raw.Close()
}

// hearLastWords takes what the server sent before it stopped taking anything:
// the reason is often among it, and a failed write only tells that there is one.
func (s *Session) hearLastWords() {
	s.raw.SetReadDeadline(time.Now().Add(lastWordsTimeout))
	timeout := time.After(lastWordsTimeout) // the reader may be inside Deliver
	for !s.over() {
		select {
		case f, ok := <-s.inbound:
			if !ok {
				return
			}
			s.receive(f)
			s.settle()
		case <-timeout:
			return
		}
	}
}

// end closes link, call and TLS in this order and waits for reader and writer.
func (s *Session) end(bound time.Duration) {
	s.running.Store(true)
	s.open.Store(false)
	cause := s.cause // of what follows, this is the reason
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	s.flush() // an Ack to the peer's Terminate-Request goes before our Disconnect
	s.terminate(ctx)
	s.disconnect(ctx)

	// The writer drains its queue first; a peer that reads no more can't hold it.
	s.raw.SetWriteDeadline(time.Now().Add(cancelTimeout))
	close(s.stop)
	read := make(chan struct{})
	s.wg.Go(func() { // ends with the reader, which must not wait for the loop now
		defer close(read)
		for range s.inbound {
		}
	})
	<-s.out.drained
	if s.out.broken {
		s.raw.Close() // close_notify could not pass either, and would wait for 5 s
	} else {
		s.conn.CloseWrite() // close_notify
		if s.linger {
			s.await(read)
		}
		s.conn.Close()
	}
	s.wg.Wait()
	s.timer.Stop()
	close(s.ended)
	if cause != nil {
		origin := OriginOf(cause)
		s.log.Debug("tunnel down", "by", origin.By, "layer", origin.Layer, "err", cause)
	} else {
		s.log.Debug("tunnel down on request")
	}
}

// terminate ends the PPP link: Terminate-Request, and a short wait for its Ack.
func (s *Session) terminate(ctx context.Context) {
	if s.cause != nil || !s.call.PassesPPP() || !s.linkUp {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, terminateTimeout)
	defer cancel()
	s.link.Close(time.Now())
	for !s.link.Done() && s.call.PassesPPP() {
		if s.turn(ctx, nil) != nil {
			return
		}
	}
}

// disconnect ends the SSTP call.
func (s *Session) disconnect(ctx context.Context) {
	s.call.Disconnect(time.Now())
	for !s.call.Done() {
		if s.turn(ctx, nil) != nil {
			return
		}
	}
}

// await waits, for a short time, until the server closes the connection too.
func (s *Session) await(closed <-chan struct{}) {
	timer := time.NewTimer(lingerTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-s.quit: // nobody comes again
	case <-s.breaks:
	case <-timer.C:
	}
}
