package config

import "fmt"

// Level is where a value came from. Higher levels win; the zero value is
// LevelDefault.
type Level int

// The levels, weakest first.
const (
	LevelDefault Level = iota
	LevelRepo
	LevelUser
	LevelEnv
	LevelFlag
)

// Source names where a value came from. The zero value is "default".
type Source struct {
	Level Level
	Name  string // "flag --server", "WOODPECKER_SERVER", "FILE:LINE"; "" at LevelDefault
}

func (s Source) String() string {
	if s.Level == LevelDefault {
		return "default"
	}
	return s.Name
}

func fromFlag(name string) Source { return Source{Level: LevelFlag, Name: "flag --" + name} }
func fromEnv(name string) Source  { return Source{Level: LevelEnv, Name: name} }

func fromFile(level Level, file string, line int) Source {
	return Source{Level: level, Name: fmt.Sprintf("%s:%d", file, line)}
}

// Value is one setting with its source.
type Value[T any] struct {
	V      T    // the default when Set is false
	Set    bool // some level named it
	Source Source
}

// Ptr returns a pointer to the value, nil when no level named it.
func (v Value[T]) Ptr() *T {
	if !v.Set {
		return nil
	}
	return &v.V
}

// Pick returns the first value that is set, else the last one: callers list
// them strongest first and the default last. Without values it is zero.
func Pick[T any](values ...Value[T]) Value[T] {
	var last Value[T]
	for _, v := range values {
		if v.Set {
			return v
		}
		last = v
	}
	return last
}

// Given returns a flag's value for Pick; v is nil when the flag was not given.
func Given[T any](flag string, v *T) Value[T] {
	if v == nil {
		return Value[T]{}
	}
	return Value[T]{V: *v, Set: true, Source: fromFlag(flag)}
}

func set[T any](v T, s Source) Value[T] { return Value[T]{V: v, Set: true, Source: s} }
