// Package mschap is the key arithmetic of MS-CHAPv2 (RFC 2759) and of the MPPE
// start keys that follow from it (RFC 3079): pure functions over octets.
//
// It is not a protocol: packets, identifiers and the order of messages are in
// package ppp, and no MPPE encryption is done anywhere, since SSTP needs the
// start keys only as material for its crypto binding.
//
// MD4, DES and SHA-1 are what these standards prescribe. None of them protects
// anything by today's measure; the TLS connection around the tunnel does.
//
// Most callers need NTResponse and HLAK:
//
//	nt, err := mschap.NTResponse(challenge, peerChallenge, mschap.HashedUser(user), password)
//	if err != nil {
//		return err
//	}
//	// … send nt, receive the server's Success …
//	want, err := mschap.AuthenticatorResponse(challenge, peerChallenge, nt, mschap.HashedUser(user), password)
//	if err != nil {
//		return err
//	}
//	// … compare want with the server's proof …
//	hlak, err := mschap.HLAK(nt, password)
package mschap
