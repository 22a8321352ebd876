package flows_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
)

// TestTimes says when a timer fires that was asked for at noon on 23 April 2026, or where it is refused.
func TestTimes(t *testing.T) {
	at := func(text string) flows.When {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return flows.When{At: &when}
	}
	after := func(p flows.Period) flows.When { return flows.When{After: &p} }
	const day = 24 * time.Hour
	for _, c := range []struct {
		when    flows.When
		horizon time.Duration
		want    string
	}{
		{at("2026-04-23T15:00:00Z"), 0, "2026-04-23T15:00:00.000000Z"},
		{at("2026-04-23T17:00:00+02:00"), 0, "2026-04-23T15:00:00.000000Z"},
		{at("2026-04-23T15:00:00.000001Z"), 0, "2026-04-23T15:00:00.000001Z"},
		{at("2026-04-23T15:00:00.000001001Z"), 0, "2026-04-23T15:00:00.000002Z"}, // never before its time
		{at("2026-04-23T15:00:00.999999999Z"), 0, "2026-04-23T15:00:01.000000Z"},
		{after(flows.Period{Rest: 15 * time.Minute}), 0, "2026-04-23T12:15:00.000000Z"},
		{after(flows.Period{Rest: time.Nanosecond}), 0, "2026-04-23T12:00:00.000001Z"},
		{after(flows.Period{Months: 1}), 0, "2026-05-23T12:00:00.000000Z"},
		{after(flows.Period{Months: 10}), 0, "2027-02-23T12:00:00.000000Z"},
		{after(flows.Period{Years: 1, Months: 1, Days: 1, Rest: time.Hour}), 0, "2027-05-24T13:00:00.000000Z"},
		{after(flows.Period{Days: 30}), 0, "2026-05-23T12:00:00.000000Z"},
		{after(flows.Period{Rest: 30 * day}), 0, "2026-05-23T12:00:00.000000Z"},
		{at("2026-04-24T12:00:00Z"), day, "2026-04-24T12:00:00.000000Z"}, // the horizon itself is within it
		{at("2026-04-24T12:00:00.000001Z"), day, "/wait/at"},
		{at("2026-04-24T12:00:00.0000001Z"), day, "/wait/at"},
		{after(flows.Period{Days: 1}), day, "2026-04-24T12:00:00.000000Z"},
		{after(flows.Period{Days: 1, Rest: 1}), day, "/wait/after"},
		{after(flows.Period{Years: 1}), 366 * day, "2027-04-23T12:00:00.000000Z"},
		{after(flows.Period{Years: 2}), 366 * day, "/wait/after"},
		{at("9999-12-31T23:59:59.999999Z"), 0, "9999-12-31T23:59:59.999999Z"},
		{at("9999-12-31T23:59:59.9999999Z"), 0, "/wait/at"},
		{at("9999-12-31T23:59:59-01:00"), 0, "/wait/at"},
		{after(flows.Period{Years: 9999}), 0, "/wait/after"},
	} {
		change, err := decide(flowIn(flows.Running, false), noon, flows.SetWait{Kind: flows.WaitTimer, Horizon: c.horizon,
			Conditions: []flows.ConditionSpec{{Kind: flows.WaitTimer, When: c.when}}})
		var invalid *flows.InvalidValue
		got := fmt.Sprint(err)
		switch {
		case errors.As(err, &invalid) && len(invalid.Fields) == 1:
			got = invalid.Fields[0].Pointer
		case err == nil:
			got = flows.FormatTime(change.Flow.Wait.Conditions[0].At)
		}
		if got != c.want {
			t.Errorf("%v %v, horizon %s: %s, want %s", c.when.At, c.when.After, c.horizon, got, c.want)
		}
	}
}

// TestHorizonOfEveryTime finds each time that is too far, by its place in the body, and begins no wait.
func TestHorizonOfEveryTime(t *testing.T) {
	a := anyOf(specTimer(in(10)), specTimer(in(61)), flows.ConditionSpec{Kind: flows.WaitManual},
		flows.ConditionSpec{Kind: flows.WaitTimer, When: flows.When{After: &flows.Period{Months: 1}}})
	a.Horizon, a.Timeout = time.Minute, &flows.TimeoutSpec{When: flows.When{At: ptr(in(62))}, Then: flows.TimeoutFails}
	change, err := decide(flowIn(flows.Running, false), noon, a)
	var invalid *flows.InvalidValue
	if !errors.As(err, &invalid) || !reflect.DeepEqual(change, flows.Change{}) {
		t.Fatalf("%+v, %v", change, err)
	}
	var got []string
	for _, f := range invalid.Fields {
		got = append(got, f.Pointer)
	}
	if want := "/wait/conditions/1/at /wait/conditions/3/after /wait/timeout/at"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if change, err = decide(flowIn(flows.Created, false), noon, a); outcome(change, err) != "illegal" {
		t.Errorf("the transition comes first: %v", err)
	}
}
