// Command app is what runs in the containers of these tests: the one program of
// their images. It serves, ends as it is told, or looks at its files.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// version is set when an image is built.
var version = "0"

func main() {
	args := append(os.Args[1:], "serve", "")
	switch args[0] {
	case "serve":
		serve()
	case "healthy":
		resp, err := http.Get("http://127.0.0.1:8080/")
		if err != nil || resp.StatusCode != http.StatusOK {
			os.Exit(1)
		}
	case "exit":
		fmt.Println("app: ending with", args[1])
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "cat":
		b, err := os.ReadFile(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = os.Stdout.Write(b)
	case "append":
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, version)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func serve() {
	fmt.Println("app: version", version, "greets with", os.Getenv("GREETING"))
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		os.Exit(0)
	}()
	err := http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasSuffix(version, "ill") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%s %s\n", version, os.Getenv("GREETING"))
	}))
	fmt.Println(err)
	os.Exit(1)
}
