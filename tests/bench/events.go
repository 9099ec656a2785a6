// Event streams with send times in the events: `events emit` is the gateway, `events read` the tools.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

var padding = strings.Repeat("x", 120)

func emit(w http.ResponseWriter, r *http.Request) {
	rate, _ := strconv.Atoi(r.URL.Query().Get("rate"))
	count, _ := strconv.Atoi(r.URL.Query().Get("count"))
	offset, _ := strconv.Atoi(r.URL.Query().Get("offset")) // microseconds, so that streams do not beat as one
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := w.(http.Flusher)
	flusher.Flush()
	time.Sleep(time.Duration(offset) * time.Microsecond)
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for range count {
		fmt.Fprintf(w, "data: %d %s\n\n", time.Now().UnixNano(), padding)
		flusher.Flush()
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

func read(url, key, ca string, streams, rate, count, body int) {
	prompt := bytes.Repeat([]byte("x"), body)
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(ca); err == nil {
		roots.AppendCertsFromPEM(pem)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	delays := make([][]float64, streams)
	failed := make([]int, streams)
	var group sync.WaitGroup
	for i := range streams {
		group.Add(1)
		go func() {
			defer group.Done()
			offset := i * 1000000 / rate / streams
			full := fmt.Sprintf("%s/events?rate=%d&count=%d&offset=%d", url, rate, count, offset)
			request, _ := http.NewRequest("GET", full, nil)
			if body > 0 {
				request, _ = http.NewRequest("POST", full, bytes.NewReader(prompt))
			}
			request.Header.Set("Authorization", "Bearer "+key)
			answer, err := client.Do(request)
			if err != nil {
				failed[i] = count
				return
			}
			defer answer.Body.Close()
			lines := bufio.NewScanner(answer.Body)
			for lines.Scan() {
				now := time.Now().UnixNano()
				words := strings.Fields(lines.Text())
				if len(words) == 3 {
					sent, _ := strconv.ParseInt(words[1], 10, 64)
					delays[i] = append(delays[i], float64(now-sent)/1e6)
				}
			}
			failed[i] = count - len(delays[i])
		}()
	}
	group.Wait()
	var all []float64
	lost := 0
	for i := range streams {
		// The first quarter is the start of all streams at once, which is not what is asked here.
		all = append(all, delays[i][len(delays[i])/4:]...)
		lost += failed[i]
	}
	sort.Float64s(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return -1
		}
		return all[min(len(all)-1, int(q*float64(len(all))))]
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"events": len(all), "lost": lost, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1),
	})
}

func main() {
	listen := flag.String("listen", "", "address of the emitter; empty: read")
	cert := flag.String("cert", "", "PEM file")
	certKey := flag.String("cert-key", "", "PEM file")
	ca := flag.String("ca", "", "PEM file")
	url := flag.String("url", "", "where to read from")
	key := flag.String("key", "", "local key")
	streams := flag.Int("streams", 1, "at once")
	rate := flag.Int("rate", 50, "events per second and stream")
	count := flag.Int("count", 100, "events per stream")
	body := flag.Int("body", 0, "bytes of each request's body")
	flag.Parse()
	if *listen == "" {
		read(*url, *key, *ca, *streams, *rate, *count, *body)
		return
	}
	http.HandleFunc("/events", emit)
	panic(http.ListenAndServeTLS(*listen, *cert, *certKey, nil))
}
