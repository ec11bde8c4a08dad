// Command intranet is an embedded SSTP server on loopback with a private network
// behind it in which servers of this machine stand: what .ci/clients runs real
// clients against.
//
//	intranet CA-FILE [PORT=HOST:PORT[/udp] ...]
//
// The network has one host, 10.98.0.80, and every name below intranet.test is its
// name. Each PORT of it leads to HOST:PORT as this machine sees it. A name server
// is ns.intranet.test, 10.98.0.1. The command writes the certificate to trust to
// CA-FILE, prints the server's address and ends when it is interrupted. The
// account is alice with the password wonderland.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"sstproxy/tunnel/tunneltest"
)

// The account.
const (
	user     = "alice"
	password = "wonderland"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "intranet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: intranet CA-FILE [PORT=HOST:PORT[/udp]]")
	}
	services, err := parseServices(args[1:])
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	server, err := tunneltest.Start(config(services, log))
	if err != nil {
		return err
	}
	defer server.Close()
	if err := os.WriteFile(args[0], server.CA(), 0o644); err != nil {
		return err
	}
	fmt.Println(server.Addr())
	<-ctx.Done()
	return nil
}
