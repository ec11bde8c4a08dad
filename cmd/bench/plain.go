package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"os"
	"os/signal"

	"github.com/armon/go-socks5"
)

// runPlain is the yardstick for what a proxied connection costs: the library
// that parses SOCKS in sstproxy as a proxy of its own. It dials the service on
// loopback, through the kernel and no tunnel.
func runPlain() error {
	server, err := socks5.New(&socks5.Config{Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		return err
	}
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
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
