package main

import (
	"context"
	"net"
	"net/netip"
	"time"

	"homelab/pkg/config"
	"homelab/pkg/git"
	"homelab/pkg/transport"
	"homelab/pkg/woodpecker"
	"homelab/verbs/doctor"
)

func (a *app) doctorDeps() doctor.Deps {
	return doctor.Deps{
		IO: a.streams, Flags: a.flags, Now: time.Now,
		Load: a.config, Checkout: a.checkout,
		Git: func(ctx context.Context) (git.Version, error) { return git.Installed(ctx, a.dir, a.env.Child()) },
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		Server: func(e *config.Effective, token doctor.TokenFunc) (*doctor.Server, error) {
			stack, err := a.stack(e, token)
			if err != nil {
				return nil, err
			}
			return &doctor.Server{
				Transport: stack, Close: stack.CloseIdleConnections,
				Client: woodpecker.New(woodpecker.Options{
					Base: e.Server.V, Transport: stack, CloseIdle: stack.CloseIdleConnections, Log: a.log(),
				}),
			}, nil
		},
		Token: func(e *config.Effective) (doctor.TokenFunc, error) {
			t, err := a.tokens(e)
			if err != nil {
				return nil, err
			}
			return t.get, nil
		},
		Vault: func(e *config.Effective) (*doctor.Server, error) {
			stack, err := transport.New(transport.Options{
				Base: e.Vault.Address.V, Pin: e.Vault.Pin.Ptr(), CAFile: e.Vault.CACert.V, Proxy: e.Proxy,
				InsecureHTTP: e.InsecureHTTP.V, UserAgent: a.userAgent(), Log: a.log(), Redact: &a.redact,
			})
			if err != nil {
				return nil, err
			}
			return &doctor.Server{Transport: stack, Close: stack.CloseIdleConnections}, nil
		},
		Cluster: a.connectCluster,
	}
}
