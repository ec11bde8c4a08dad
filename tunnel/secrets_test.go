package tunnel

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestWithoutSecrets: what is blanked, in whatever form a frame comes, and what
// is not.
func TestWithoutSecrets(t *testing.T) {
	for name, tt := range map[string]struct{ frame, want string }{
		"PAP request":            {"ff03c023 01070008 01610162", "ff03c023 01070008 00000000"},
		"PAP request, short":     {"c023 01070008 01610162", "c023 01070008 00000000"},
		"PAP request, cut":       {"ff03c023 010700ff 0161", "ff03c023 010700ff 0000"},
		"PAP request, padding":   {"ff03c023 01070008 01610162 0162", "ff03c023 01070008 00000000 0000"},
		"PAP request, empty":     {"ff03c023 01070004", "ff03c023 01070004"},
		"PAP request, no length": {"ff03c023 0107", "ff03c023 0107"},
		"PAP ack":                {"ff03c023 02070005 00", "ff03c023 02070005 00"},
		"CHAP challenge":         {"ff03c223 01070008 02616263", "ff03c223 01070008 02616263"},
		"CHAP response":          {"ff03c223 02070008 02616263", "ff03c223 02070008 02000063"},
		"CHAP response, cut":     {"ff03c223 02070008 096162", "ff03c223 02070008 090000"},
		"CHAP success":           {"ff03c223 03070006 4f4b", "ff03c223 03070006 4f4b"},
		"PAP rejected":           {"ff03c021 0807000e c023 01070008 01610162", "ff03c021 0807000e c023 00000000 00000000"},
		"CHAP rejected":          {"ff03c021 0807000e c223 02070008 02616263", "ff03c021 0807000e c223 00000000 00000000"},
		"IPV6CP rejected":        {"ff03c021 0807000a 8057 01070004", "ff03c021 0807000a 8057 01070004"},
		"rejected, cut":          {"ff03c021 08070006 c0", "ff03c021 08070006 c0"},
		"LCP request":            {"ff03c021 01070008 010405dc", "ff03c021 01070008 010405dc"},
		"IPv4":                   {"ff030021 45000014 c0230107", "ff030021 45000014 c0230107"},
		"IPv4, compressed":       {"21 45000014", "21 45000014"},
		"nothing":                {"", ""},
	} {
		frame, want := unhex(t, tt.frame), unhex(t, tt.want)
		before := bytes.Clone(frame)
		if got := withoutSecrets(frame); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
		if !bytes.Equal(frame, before) {
			t.Errorf("%s: the frame itself was changed", name)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSendQueueWiped: what was taken from the queue is not left in it.
func TestSendQueueWiped(t *testing.T) {
	var q sendQueue
	q.init()
	if err := q.add([]byte("alice wonderland")); err != nil {
		t.Fatal(err)
	}
	if got := q.take(nil); string(got) != "alice wonderland" {
		t.Errorf("took %q", got)
	}
	if left := q.queued[:cap(q.queued)]; bytes.Count(left, []byte{0}) != len(left) {
		t.Errorf("left in the queue: %q", left)
	}
}
