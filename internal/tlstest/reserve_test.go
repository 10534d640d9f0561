package tlstest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"homelab/internal/tlstest"
)

func TestReserve(t *testing.T) {
	t.Parallel()
	at := tlstest.Reserve(t).String()
	if other := tlstest.Reserve(t).String(); other == at {
		t.Errorf("%s was given twice", at)
	}
	refused := func() {
		t.Helper()
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a connection to what is reserved: %v", err)
		}
	}
	refused()
	for range 2 { // a program that listens there, and the next one
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
		refused()
	}
}
