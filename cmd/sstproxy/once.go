package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
)

// onceSecret reads one one-time password after the other from the same source.
// It is used by one goroutine at a time.
type onceSecret struct {
	app    *app
	source secret
	ready  string              // read and not yet given out
	used   [][sha256.Size]byte // of each that was read
}

// read reads a password that was not read before.
func (o *onceSecret) read(ctx context.Context) error {
	password, err := o.app.readSecret(ctx, o.source)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(password))
	if slices.Contains(o.used, sum) {
		return errOnceUsed
	}
	o.used, o.ready = append(o.used, sum), password
	return nil
}

// next gives out a password that it has not given out before.
func (o *onceSecret) next(ctx context.Context) (password string, err error) {
	if o.ready == "" {
		if err := o.read(ctx); err != nil {
			return "", errors.Join(errOnceUsed, err)
		}
	}
	password, o.ready = o.ready, ""
	return password, nil
}
