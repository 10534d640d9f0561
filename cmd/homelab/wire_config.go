package main

import (
	"homelab/pkg/config"
	configverbs "homelab/verbs/config"
)

func (a *app) configDeps() configverbs.Deps {
	return configverbs.Deps{
		IO: a.streams, Flags: a.flags, Load: a.config,
		Path: func() (config.Value[string], error) { return config.Path(a.env, a.given().Config) },
	}
}
