// Command image-verifier asks containerd's own verifier package, as containerd
// does before a pull, and prints its judgement as JSON.
//
//	image-verifier BIN_DIR NAME DIGEST MEDIA_TYPE SIZE [TIMEOUT]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/containerd/v2/pkg/imageverifier/bindir"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if err := judge(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(args []string) error {
	if len(args) < 5 {
		return fmt.Errorf("want BIN_DIR NAME DIGEST MEDIA_TYPE SIZE [TIMEOUT]")
	}
	size, err := strconv.ParseInt(args[4], 10, 64)
	if err != nil {
		return err
	}
	config := &bindir.Config{BinDir: args[0], MaxVerifiers: 10}
	// As in containerd's configuration file: the type is internal to it.
	if err := config.PerVerifierTimeout.UnmarshalText([]byte(append(args, "10s")[5])); err != nil {
		return err
	}
	judgement, err := bindir.NewImageVerifier(config).VerifyImage(context.Background(), args[1], v1.Descriptor{
		MediaType: args[3], Digest: digest.Digest(args[2]), Size: size,
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(judgement)
}
