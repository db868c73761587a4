// The yardstick of bench/streams_through.py: exec, port-forward and logs of a node as Kubernetes itself serves them in Go,
// with the packages that the kubelet and the Go virtual-kubelet have for it. No authentication, no pods: it measures streams.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	client "k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubernetes/pkg/kubelet/cri/streaming/portforward"
	serving "k8s.io/kubernetes/pkg/kubelet/cri/streaming/remotecommand"
)

type node struct{}

func (node) ExecInContainer(name string, uid types.UID, container string, cmd []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan client.TerminalSize, timeout time.Duration) error {
	command := exec.Command(cmd[0], cmd[1:]...)
	if out != nil {
		command.Stdout = out
	}
	if err != nil {
		command.Stderr = err
	}
	if in == nil {
		return command.Run()
	}
	stdin, failed := command.StdinPipe()
	if failed != nil {
		return failed
	}
	go func() {
		io.Copy(stdin, in)
		stdin.Close()
	}()
	return command.Run()
}

func (node) PortForward(name string, uid types.UID, port int32, stream io.ReadWriteCloser) error {
	connection, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer connection.Close()
	done := make(chan struct{})
	go func() {
		io.Copy(stream, connection)
		close(done)
	}()
	io.Copy(connection, stream)
	connection.(*net.TCPConn).CloseWrite()
	<-done
	return nil
}

// flushing sends each piece at once, as the Go virtual-kubelet does with logs.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(data []byte) (int, error) {
	n, err := f.ResponseWriter.Write(data)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

func (n node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch strings.Split(r.URL.Path, "/")[1] {
	case "exec":
		options, err := serving.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		serving.ServeExec(w, r, n, "p", "", "main", r.URL.Query()["command"], options, 4*time.Hour, 30*time.Second, remotecommand.SupportedStreamingProtocols)
	case "portForward":
		portforward.ServePortForward(w, r, n, "p", "", &portforward.V4Options{}, 4*time.Hour, 30*time.Second, portforward.SupportedProtocols)
	case "containerLogs":
		file, err := os.Open(os.Getenv("LOG_FILE"))
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer file.Close()
		io.Copy(flushing{w}, file)
	default:
		http.NotFound(w, r)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "")
	certificate := flag.String("tls-cert-file", "", "")
	key := flag.String("tls-private-key-file", "", "")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: node{}, TLSNextProto: nil}
	log.Fatal(server.ServeTLS(listener, *certificate, *key))
}
