// Package netns gives one command a network of its own: a network namespace
// (network_namespaces(7)) whose only way out is a device, and what that carries
// is handed to the caller as IP packets. Without root: the namespace belongs to a
// user namespace of the caller's own (user_namespaces(7)). Linux only; elsewhere
// [New] returns errors.ErrUnsupported.
//
// It is no container: the command sees the files, the processes and the Unix
// sockets of its user. Only /etc/resolv.conf, /etc/hosts and /etc/nsswitch.conf are
// others, and the sockets by which the C library would ask the machine's own name service
// answer no more.
//
// It knows nothing of what carries the packets; the functions of [Space] fit
// where a TCP/IP stack would stand. Packets that the kernel hands over whole, for
// somebody below to cut (GSO), are cut here, and segments of a flow are merged
// before the kernel gets them (GRO): its cost is per packet, not per octet.
//
// The device is a TUN device where the user may open /dev/net/tun. Where not, it
// is one end of a veth pair; the other end lies in another namespace that holds
// nothing else, with a packet socket (packet(7)) on it.
//
// A program that uses the package calls [Init] first of all in main, because New
// starts the program itself again, which makes the namespace and then becomes the
// command:
//
//	func main() {
//		netns.Init()
//		cmd := exec.Command("curl", "http://intranet/")
//		space, err := netns.New(cmd, netns.Config{})
//		…
//		err = space.SetLink(netns.Link{Addrs: addrs, MTU: 1500, DNS: servers})
//		err = space.Release() // the command starts
//		err = cmd.Wait()
//	}
package netns
