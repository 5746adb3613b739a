//go:build interop && linux

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const rekorPosix = "rekor-posix-v2.3.0"

// Each measurement ends after so long or so many entries a client, whichever
// comes last: with a checkpoint every ten seconds a client logs one in ten.
const (
	logBenchTime   = 8 * time.Second
	logBenchRounds = 2
)

// ticksPerSecond is the unit of /proc/PID/stat, the same on every Linux.
const ticksPerSecond = 100

// logServer is a log that takes Rekor v2 requests.
type logServer struct {
	name, url string
	pid       int
	dir       string
}

// figures are what one measurement gives.
type figures struct {
	rate     float64
	p50, p99 time.Duration
	bytes    float64
	cpu      time.Duration
}

// BenchmarkLogPeer logs the same kind of entries, hashedrekord over random
// digests, into our log and into stock rekor-server-posix, one after the other
// on the same disk: with the interval between checkpoints that it has by
// default, and with ours. An answer counts when it carries an inclusion proof.
func BenchmarkLogPeer(b *testing.B) {
	results := map[string]map[int]figures{}
	clients := []int{1, 64, 1024}
	for _, start := range []func(*testing.B) logServer{
		ourLog,
		func(b *testing.B) logServer { return rekorLog(b, "rekor-default-10s") },
		func(b *testing.B) logServer {
			return rekorLog(b, "rekor-100ms", "--checkpoint-interval=100ms", "--batch-max-age=20ms", "--batch-max-size=512")
		},
	} {
		s := start(b)
		results[s.name] = map[int]figures{}
		for _, n := range clients {
			b.Run(fmt.Sprintf("%s/clients=%d", s.name, n), func(b *testing.B) {
				f := measureLog(b, s, n)
				results[s.name][n] = f
				b.ReportMetric(f.rate, "entries/s")
				b.ReportMetric(float64(f.p50.Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(f.p99.Microseconds())/1000, "p99-ms")
				b.ReportMetric(f.bytes, "disk-B/entry")
				b.ReportMetric(float64(f.cpu.Microseconds()), "cpu-us/entry")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
	for _, n := range clients {
		ours, theirs := results["countersign"][n], results["rekor-default-10s"][n]
		if ours.rate < theirs.rate || ours.p50*10 > theirs.p50 {
			b.Errorf("%d clients: %.0f entries/s after %v, stock Rekor %.0f after %v", n, ours.rate, ours.p50, theirs.rate, theirs.p50)
		}
	}
}

func ourLog(b *testing.B) logServer {
	p := newProcess(b, "--log-anonymous-writes")
	p.start()
	return logServer{"countersign", p.url, p.cmd.Process.Pid, p.dir}
}

// rekorLog starts the peer with persistent deduplication, which is what ours
// always does.
func rekorLog(b *testing.B, name string, args ...string) logServer {
	b.Helper()
	home := b.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(newLogKey(b).key)
	check(b, err)
	key := filepath.Join(home, "rekor.pem")
	check(b, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	var ports []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(b, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
		check(b, l.Close())
	}
	dir := filepath.Join(home, "log")
	cmd := exec.Command(peer(b, rekorPosix), append([]string{
		"serve", "--http-address=127.0.0.1", "--http-port=" + ports[0], "--grpc-address=127.0.0.1", "--grpc-port=" + ports[1],
		"--http-metrics-port=" + ports[2], "--hostname=127.0.0.1", "--storage-dir=" + dir, "--signer-filepath=" + key, "--persistent-antispam=true",
	}, args...)...)
	out, err := os.Create(filepath.Join(home, "out"))
	check(b, err)
	cmd.Stdout, cmd.Stderr = out, out
	check(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = out.Close() })
	s := logServer{name, "http://127.0.0.1:" + ports[0], cmd.Process.Pid, home}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if answer, err := http.Get(s.url + "/healthz"); err == nil {
			answer.Body.Close()
			return s
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(out.Name())
			b.Fatalf("%s does not answer:\n%s", name, text)
		}
	}
}

func measureLog(b *testing.B, s logServer, clients int) figures {
	b.Helper()
	keys := newLogKey(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took []time.Duration
	var failed atomic.Int64
	var first atomic.Value
	used, size := usedCPU(b, s.pid), usedDisk(b, s.dir)
	start := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := 0; n < logBenchRounds || time.Since(start) < logBenchTime; n++ {
				request := keys.request(b)
				began := time.Now()
				if err := postEntry(client, s.url, request); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err.Error())
					time.Sleep(100 * time.Millisecond)
					continue
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	whole := time.Since(start)
	if failed.Load() > 0 {
		b.Logf("%d calls failed, the first with %v", failed.Load(), first.Load())
	}
	if len(took) == 0 {
		b.Fatal("nothing was logged")
	}
	slices.Sort(took)
	n := len(took)
	return figures{
		rate: float64(n) / whole.Seconds(), p50: took[n/2], p99: took[n*99/100],
		bytes: float64(usedDisk(b, s.dir)-size) / float64(n), cpu: (usedCPU(b, s.pid) - used) / time.Duration(n),
	}
}

func postEntry(client *http.Client, url string, request []byte) error {
	answer, err := client.Post(url+"/api/v2/log/entries", "application/json", bytes.NewReader(request))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusCreated:
		return fmt.Errorf("status %d: %s", answer.StatusCode, body)
	case !bytes.Contains(body, []byte("inclusionProof")):
		return fmt.Errorf("no proof: %s", body)
	}
	return nil
}

// usedCPU is the time that a process has computed, in the kernel too.
func usedCPU(b testing.TB, pid int) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(b, err)
	// The name, in parentheses, may hold spaces.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var user, system int64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	check(b, err)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// usedDisk is what the files of a folder take of the disk, holes not counted.
func usedDisk(b testing.TB, dir string) (size int64) {
	b.Helper()
	check(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			size += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	}))
	return size
}
