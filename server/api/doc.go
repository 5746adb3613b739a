// Package api is what travels between Countersign and its callers: the wire
// types of every /v1 answer and request, the problem document, and a client
// that speaks them. The command line, the console and the black-box tests use
// nothing else to talk to a server.
//
// All JSON names are camelCase, times are RFC 3339 in UTC, digests are
// `sha256:` and 64 hexadecimal digits. Fields are added, never renamed.
//
//	c, err := api.NewClient("http://127.0.0.1:8181", token)
//	signature, err := c.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{})
//
// A refusal by the server is an error of type *Problem. The client follows no
// redirect, so a token never travels to a host it was not given for, and it
// reads no more than MaxAnswer bytes of one answer.
package api
