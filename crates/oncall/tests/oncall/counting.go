// Which receivers count at each instant (seconds since 1970, one a line on standard input), by
// Alertmanager's own configuration loader and its own time intervals. A test of the crate runs it in
// tools/alertmanager, whose go.mod pins the version.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/timeinterval"
)

func main() {
	conf, err := config.LoadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	intervals := map[string][]timeinterval.TimeInterval{}
	for _, it := range conf.TimeIntervals {
		intervals[it.Name] = it.TimeIntervals
	}
	intervener := timeinterval.NewIntervener(intervals)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		seconds, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			panic(err)
		}
		var receivers []string
		visit(conf.Route, intervener, time.Unix(seconds, 0), &receivers)
		sort.Strings(receivers)
		fmt.Println(strings.Join(receivers, " "))
	}
}

func visit(route *config.Route, intervener *timeinterval.Intervener, at time.Time, receivers *[]string) {
	contains := func(names []string) bool {
		in, _, err := intervener.Mutes(names, at)
		if err != nil {
			panic(err)
		}
		return in
	}
	timed := len(route.ActiveTimeIntervals)+len(route.MuteTimeIntervals) > 0
	active := len(route.ActiveTimeIntervals) == 0 || contains(route.ActiveTimeIntervals)
	if timed && active && !contains(route.MuteTimeIntervals) {
		name := route.Receiver
		if route.GroupWait != nil {
			name += "/" + route.GroupWait.String()
		}
		*receivers = append(*receivers, name)
	}
	for _, child := range route.Routes {
		visit(child, intervener, at, receivers)
	}
}
