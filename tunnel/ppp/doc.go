// Package ppp is the client's half of the Point-to-Point Protocol as it runs
// inside SSTP: framing, the option negotiation automaton, LCP, PAP, CHAP,
// MS-CHAPv2, IPCP and IPV6CP, put together in Link.
package ppp
