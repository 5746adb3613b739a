//go:build race

package server_test

// raced: the tests run under the race detector.
const raced = true
