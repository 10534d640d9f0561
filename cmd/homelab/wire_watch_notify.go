package main

import (
	"path/filepath"

	"homelab/pkg/artifact/notify"
	"homelab/pkg/transport"
)

// receivers makes those who are told what becomes of the watch.
func (w *watchParts) receivers() error {
	if len(w.s.Notify) == 0 {
		return nil
	}
	all, err := notify.New(w.s.Notify, notify.Deps{
		Transport: transport.Options{Proxy: w.e.Proxy, UserAgent: w.userAgent(), Redact: &w.redact, InsecureHTTP: w.e.InsecureHTTP.V},
		Log:       w.log(), Secret: w.secretFile,
		Env: w.env.Child(), Dir: filepath.Join(w.dir(), "work"), Redact: w.redact.String,
	})
	if err != nil {
		return err
	}
	w.out.Receivers = all
	return nil
}
