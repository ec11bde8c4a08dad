package tunnel

// HostEvent is a hostEvent for the tests outside of the package.
type HostEvent = hostEvent

// WatchHost makes k, which does not run yet, believe events instead of the host.
func (k *Keeper) WatchHost(events <-chan HostEvent) { k.host = events }
