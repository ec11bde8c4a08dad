package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/netstack"
	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
)

// options is what a command line and the environment ask for.
type options struct {
	account  accountOptions
	identity identityOptions
	link     linkOptions
	survival survivalOptions
	local    localOptions
	logs     logOptions
	record   recordOptions
	forwards forwardOptions
	names    nameOptions
}

// accountOptions say who logs in and how.
type accountOptions struct {
	user         string
	passwordFile string
	auth         []string
	once         bool
	allowPAP     bool
}

// identityOptions say how the server proves who it is.
type identityOptions struct {
	ca           string
	pins         []string
	fingerprints []string
	serverName   string
	insecure     bool
}

// linkOptions shape the tunnel.
type linkOptions struct {
	requestAddress string
	mtu            int
	memory         string
	answerPing     bool
	ipv6           string
	connectTimeout time.Duration
}

// survivalOptions say how a loss of the connection is noticed and survived.
type survivalOptions struct {
	keepalive     time.Duration
	waitForTunnel time.Duration
	giveUpAfter   time.Duration
	keepTrying    bool
}

// localOptions describe the proxies on this machine.
type localOptions struct {
	listen            []string
	proxyUser         string
	proxyPasswordFile string
	allowOpenProxy    bool
}

// logOptions shape the log.
type logOptions struct {
	format string
	level  string
}

// recordOptions name the files that record a session, for diagnosis.
type recordOptions struct {
	pcap   string
	keylog string
}

// group is a titled part of a command's flags, as the help shows it.
type group struct {
	title string
	flags *pflag.FlagSet
}

// newGroup collects flags in the order of their definition.
func newGroup(title string, define func(*pflag.FlagSet)) group {
	fs := pflag.NewFlagSet(title, pflag.ContinueOnError)
	fs.SortFlags = false
	define(fs)
	return group{title, fs}
}

// defaultListen is where the proxy listens unless told otherwise.
const defaultListen = "127.0.0.1:1080"

// minMTU and maxMTU bound --mtu: the smallest packet every IPv4 host takes
// (RFC 791 §3.1), and the default MRU of PPP (RFC 1661 §6.1).
const minMTU, maxMTU = 576, 1500

// connectGroups is the flag table of connect.
func (o *options) connectGroups() []group {
	return []group{
		newGroup("Account", o.account.define),
		newGroup("Server identity", o.identity.define),
		newGroup("Tunnel", o.link.define),
		newGroup("Reconnect", o.survival.define),
		newGroup("Local proxy", o.local.define),
		newGroup("Forwards", o.forwards.define),
		newGroup("Log", o.logs.define),
		newGroup("Diagnosis", o.record.define),
		newGroup("Names and routes", o.names.define),
	}
}

func (o *accountOptions) define(fs *pflag.FlagSet) {
	fs.StringVarP(&o.user, "user", "u", "", "account `NAME`, sent as typed (DOMAIN\\NAME, NAME@HUB)")
	fs.StringVar(&o.passwordFile, "password-file", "", "read the password from `FILE`; - is standard input, /dev/fd/N\nan open descriptor. Else SSTPROXY_PASSWORD, else a prompt")
	fs.BoolVar(&o.allowPAP, "allow-pap", false, "also accept CHAP-MD5 and PAP: they prove nothing about the\nserver, and PAP shows it the password")
	fs.StringSliceVar(&o.auth, "auth", nil, "accept only these `METHODS`, strongest first: mschapv2,\nchap-md5, pap; the last two need --allow-pap")
	fs.BoolVar(&o.once, "one-time-password", false, "ask for another password at each new connection; none is sent\ntwice")
}

func (o *identityOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.ca, "ca", "", "trust the PEM certificates in `FILE` beside the system's roots")
	fs.StringArrayVar(&o.pins, "pin", nil, "accept only this public key, `sha256/BASE64` (repeatable)")
	fs.StringArrayVar(&o.fingerprints, "fingerprint", nil, "accept only the certificate with this SHA-256 fingerprint,\n64 hex digits in `HEX` (repeatable)")
	fs.StringVar(&o.serverName, "server-name", "", "`NAME` to ask for and to verify instead of SERVER's")
	fs.BoolVar(&o.insecure, "insecure", false, "accept any certificate: whoever can redirect the connection\ncan read and change everything, the password's proof included")
}

func (o *linkOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.requestAddress, "request-address", "", "ask the server for this IPv4 `ADDRESS`")
	fs.IntVar(&o.mtu, "mtu", maxMTU, "largest IP packet in the tunnel in `OCTETS`; the server may\nlower it")
	fs.StringVar(&o.memory, "memory", netstack.MemoryNormal.String(), "buffers of a connection: small (2 MiB), normal (16 MiB) or\nlarge (64 MiB) at most `SIZE`, for long fast paths")
	fs.StringVar(&o.ipv6, "ipv6", "auto", "negotiate IPv6 too: on, off, or auto, which leaves SoftEther out\n(it stops for four seconds and carries none): `WHEN`")
	fs.BoolVar(&o.answerPing, "answer-ping", false, "answer ICMP echo requests that come through the tunnel")
	fs.DurationVar(&o.connectTimeout, "connect-timeout", time.Minute, "give up when the tunnel is not up after `TIME`")
}

func (o *survivalOptions) define(fs *pflag.FlagSet) {
	fs.DurationVar(&o.keepalive, "keepalive", 15*time.Second, "take the server for dead after three times `TIME` of silence")
	fs.DurationVar(&o.waitForTunnel, "wait-for-tunnel", 30*time.Second, "let clients of the proxies wait for `TIME` while the tunnel is\ndown before they are told so")
	fs.DurationVar(&o.giveUpAfter, "give-up-after", never, "end with code 1 when the tunnel was down for `TIME`; 0 ends at\nthe first loss")
	fs.Lookup("give-up-after").DefValue = "never"
	fs.BoolVar(&o.keepTrying, "keep-trying", false, "also try the first connection again when it fails, as for a\nservice that starts before the network")
}

// never is no time: it does not come.
const never time.Duration = -1

func (o *survivalOptions) check() error {
	if o.keepalive < time.Second {
		return fmt.Errorf("--keepalive %v: want 1s or more", o.keepalive)
	}
	if o.waitForTunnel < 0 {
		return fmt.Errorf("--wait-for-tunnel %v: want 0 or more", o.waitForTunnel)
	}
	if o.giveUpAfter < 0 && o.giveUpAfter != never {
		return fmt.Errorf("--give-up-after %v: want 0 or more", o.giveUpAfter)
	}
	return nil
}

func (o *localOptions) define(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.listen, "listen", []string{defaultListen}, "serve on `WHERE` (repeatable): HOST:PORT for SOCKS5 and HTTP,\nsocks5://HOST:PORT, http://HOST:PORT, unix:PATH,\nunix:PATH,mode=660 to share it with the group")
	fs.StringVar(&o.proxyUser, "proxy-user", "", "clients of the proxy must log in with this `NAME`")
	fs.StringVar(&o.proxyPasswordFile, "proxy-password-file", "", "read their password from `FILE` as above; else\nSSTPROXY_PROXY_PASSWORD, else a prompt")
	fs.BoolVar(&o.allowOpenProxy, "allow-open-proxy", false, "listen beyond this machine without a password: everybody who\nreaches the port reaches the network behind the tunnel. And\ndo not check which user comes through a socket file")
}

func (o *logOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.format, "log-format", "", "write the log to standard error as text or json: `FORMAT`\n(default: readable lines on a terminal, else text)")
	fs.StringVar(&o.level, "log-level", "", "least `LEVEL` to log: debug, info, warn, error\n(default: warn beside the readable lines, else info)")
}

func (o *recordOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.pcap, "pcap", "", "write the packets of the tunnel to `FILE` (pcapng), over what was\nin it: in the clear, only passwords and what proves them zeroed")
	fs.StringVar(&o.keylog, "keylog", "", "append the secrets of TLS to `FILE`, in the format of NSS: with\nthem and the packets, all of the connection can be read")
}

// attach gives a command its flags and remembers their groups for the help.
func attach(cmd *cobra.Command, groups []group) {
	cmd.Flags().SortFlags = false
	for _, g := range groups {
		g.flags.VisitAll(func(f *pflag.Flag) {
			f.Annotations = map[string][]string{groupAnnotation: {g.title}}
		})
		cmd.Flags().AddFlagSet(g.flags)
	}
}

// envName is the environment variable that stands for a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

const envPrefix = "SSTPROXY_"

// applyEnvironment sets every flag that the command line left alone and the
// environment names. An empty variable counts as unset. A repeatable flag takes
// several values, separated by blanks.
func (a *app) applyEnvironment(cmd *cobra.Command) error {
	if err := a.environment(cmd.Flags()); err != nil {
		return usage(cmd, err)
	}
	return nil
}

// environment is applyEnvironment for a set of flags.
func (a *app) environment(flags *pflag.FlagSet) (failed error) {
	flags.VisitAll(func(f *pflag.Flag) {
		value, ok := a.env(envName(f.Name))
		if failed != nil || f.Changed || f.Name == "help" || !ok || value == "" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Fields(value)
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				failed = fmt.Errorf("%s: %w", envName(f.Name), unwrapped(err))
				return
			}
		}
	})
	return failed
}

// unwrapped is the cause behind pflag's sentence, which names a flag the user
// did not type, and without the name of the Go function that found it.
func unwrapped(err error) error {
	if number, ok := errors.AsType[*strconv.NumError](err); ok {
		return fmt.Errorf("%q: %w", number.Num, number.Err)
	}
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

// check finds what is wrong with the options by looking at them alone.
func (o *options) check() error {
	return errors.Join(o.account.check(), o.link.check(), o.survival.check(), o.forwards.check(), o.names.check())
}

func (o *accountOptions) check() error {
	if o.user == "" {
		return errors.New("no user name: give --user NAME")
	}
	_, err := o.methods()
	return err
}

// methods returns the acceptable authentication methods, strongest first; nil
// leaves the choice to package tunnel.
func (o *accountOptions) methods() ([]ppp.Method, error) {
	var methods []ppp.Method
	for _, word := range o.auth {
		m, ok := map[string]ppp.Method{"mschapv2": ppp.MSCHAPv2, "chap-md5": ppp.CHAPMD5, "pap": ppp.PAP}[word]
		if !ok {
			return nil, fmt.Errorf("--auth %s: want mschapv2, chap-md5 or pap", word)
		}
		if m != ppp.MSCHAPv2 && !o.allowPAP {
			return nil, fmt.Errorf("--auth %s: needs --allow-pap", word)
		}
		if !slices.Contains(methods, m) {
			methods = append(methods, m)
		}
	}
	return methods, nil
}

// ipv6Words are the values of --ipv6.
var ipv6Words = map[string]tunnel.IPv6{"auto": tunnel.IPv6Auto, "on": tunnel.IPv6On, "off": tunnel.IPv6Off}

func (o *linkOptions) check() error {
	if _, err := netstack.ParseMemory(o.memory); err != nil {
		return fmt.Errorf("--%w", err)
	}
	if _, ok := ipv6Words[o.ipv6]; !ok {
		return fmt.Errorf("--ipv6 %s: want auto, on or off", o.ipv6)
	}
	if o.mtu < minMTU || o.mtu > maxMTU {
		return fmt.Errorf("--mtu %d: want %d to %d", o.mtu, minMTU, maxMTU)
	}
	if o.connectTimeout <= 0 {
		return fmt.Errorf("--connect-timeout %v: want more than 0", o.connectTimeout)
	}
	_, err := o.address()
	return err
}

// address is the address to ask for; the zero Addr means any.
func (o *linkOptions) address() (netip.Addr, error) {
	if o.requestAddress == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(o.requestAddress)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, fmt.Errorf("--request-address %s: want an IPv4 address", o.requestAddress)
	}
	return addr, nil
}
