// Package directory makes deployment directories and keeps them in step with
// their sources: a stack's first spec, the directory that is made of it, its
// update, and what makes interrupted changes whole again (lock, journal).
//
// It never rewrites what is a person's or a workload's: data/, deployment.yml,
// a local edit without keeping it beside. Nothing is contacted; what the files
// come to is judged by package render before anything is put in place.
package directory
