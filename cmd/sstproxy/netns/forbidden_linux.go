package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// settings are what may keep an ordinary user from having namespaces: the file
// under /proc/sys, what it says then, and what would help.
var settings = []struct{ name, value, remedy string }{
	{"user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"},
	{"user.max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=10000"},
	{"user.max_mnt_namespaces", "0", "sysctl -w user.max_mnt_namespaces=10000"},
	{"kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
	{"kernel.apparmor_restrict_unprivileged_userns", "1",
		"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with the rule \"userns,\" for this program"},
}

// forbidden says what forbids namespaces if err looks like that.
func forbidden(err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return err
	}
	e := &ForbiddenError{Err: err}
	switch errno {
	case syscall.EPERM, syscall.EACCES, syscall.ENOSYS:
		e.Setting, e.Remedy = "a seccomp filter, such as containers have, forbids them", "run it outside the container, or with a profile that allows clone, unshare and mount"
		if !filtered() {
			e.Setting, e.Remedy = "a security module or a chroot forbids them", "ask the administrator, or see what dmesg says"
		}
	case syscall.ENOSPC, syscall.EUSERS:
		e.Setting, e.Remedy = "too many of them exist", "end others, or raise the limits user.max_*_namespaces"
	case syscall.EINVAL:
		e.Setting, e.Remedy = "this kernel does not know them", "use a kernel with CONFIG_USER_NS and CONFIG_NET_NS"
	default:
		return err
	}
	for _, s := range settings {
		if sysctl(s.name) == s.value {
			e.Setting, e.Remedy = fmt.Sprintf("%s is %s", s.name, s.value), s.remedy
			break
		}
	}
	return e
}

// sysctl is the value of a kernel parameter; empty if there is none.
func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// filtered tells whether a seccomp filter stands between this process and the
// kernel (proc_pid_status(5)).
func filtered() bool {
	b, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(b), "\nSeccomp:\t2")
}
