// Command cadvisor serves what this machine's kernel knows of each container: the
// container_* metrics of every control group, and machine_* of the machine. The
// program of that name is in a module that is not to be had; this is its library
// (v0.60.6) behind one page. It needs no root: what it may not read is left out.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/google/cadvisor/lib/cache/memory"
	"github.com/google/cadvisor/lib/container"
	_ "github.com/google/cadvisor/lib/container/raw" // every control group, whoever made it
	"github.com/google/cadvisor/lib/manager"
	"github.com/google/cadvisor/lib/metrics"
	"github.com/google/cadvisor/lib/model"
	"github.com/google/cadvisor/lib/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/utils/clock"
)

// version is set by the build to the library's.
var version = "dev"

// kinds are read for every control group, each second: those that cost little.
var kinds = container.MetricSet{
	container.CpuUsageMetrics:     {},
	container.MemoryUsageMetrics:  {},
	container.DiskIOMetrics:       {},
	container.NetworkUsageMetrics: {},
	container.ProcessMetrics:      {},
	container.OOMMetrics:          {},
	container.PressureMetrics:     {},
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address of /metrics")
	flag.Parse()

	interval, dynamic := 5*time.Second, false
	manager, err := manager.New(memory.New(time.Minute, nil), sysfs.NewRealSysFs(),
		manager.HousekeepingConfig{Interval: &interval, AllowDynamic: &dynamic}, kinds, []string{"/"}, nil, "", 0)
	if err != nil {
		log.Fatal(err)
	}
	if err := manager.Start(); err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.NewPrometheusCollector(manager, metrics.DefaultContainerLabels, kinds, clock.RealClock{},
			model.RequestOptions{IdType: model.TypeName, Count: 1, Recursive: true}),
		metrics.NewPrometheusMachineCollector(manager, kinds),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	log.Printf("cadvisor %s on http://%s/metrics", version, *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
