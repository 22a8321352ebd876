package httpapi

import "testing"

// TestParseTraceparent holds that a traceparent is honoured as W3C Trace Context has it, and a bad one ignored.
func TestParseTraceparent(t *testing.T) {
	const id, good = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		sent []string
		want string
	}{
		{nil, ""},
		{[]string{good}, good},
		{[]string{"00-" + id + "-00"}, "00-" + id + "-00"},
		{[]string{good, good}, ""},
		{[]string{""}, ""},
		{[]string{good[:54]}, ""},
		{[]string{good + "-x"}, ""},
		{[]string{"01-" + id + "-01-what.the.future.brings"}, good},
		{[]string{"01-" + id + "-01"}, good},
		{[]string{"01-" + id + "-01x"}, ""},
		{[]string{"ff-" + id + "-01"}, ""},
		{[]string{"0g-" + id + "-01"}, ""},
		{[]string{"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, ""},
		{[]string{"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01"}, ""},
		{[]string{"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, ""},
		{[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x"}, ""},
	} {
		if got := parseTraceparent(c.sent); got != c.want {
			t.Errorf("%q is read as %q, want %q", c.sent, got, c.want)
		}
	}
}
