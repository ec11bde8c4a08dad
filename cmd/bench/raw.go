package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
)

// runRaw is the yardstick: each local connection is relayed over one TLS
// connection of its own, without SSTP, PPP or TCP/IP, as plainly as crypto/tls
// allows.
func runRaw(target string, ca []byte) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	config := benchTLS()
	config.RootCAs, config.ServerName = roots, "localhost"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go relayRaw(c, target, config) // ends with either connection
	}
}

func relayRaw(local net.Conn, target string, config *tls.Config) {
	defer local.Close()
	far, err := tls.Dial("tcp", target, config)
	if err != nil {
		return
	}
	defer far.Close()
	var wg sync.WaitGroup
	move := func(dst, src net.Conn) {
		// Struct wrappers keep io.CopyBuffer from choosing another way.
		io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, bulkBuffer))
		dst.Close()
	}
	wg.Go(func() { move(far, local) })
	move(local, far)
	wg.Wait()
}
