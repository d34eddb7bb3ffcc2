//go:build !wasip1 && !js

// Package serve makes a program of a source: the whole main of a plugin is
//
//	func main() { serve.Serve(csv.Open) }
//
// On this platform it is a hashicorp/go-plugin process whose socket speaks Arrow
// Flight; built for wasip1 the same main is a WASI command. Package wire has the
// messages of both.
package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"github.com/penstock-data/penstock/sources"
)

// Handshake is how host and plugin know each other. Its version is that of the
// handshake alone: the protocol's own crosses in the open request.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "PENSTOCK_PLUGIN",
	MagicCookieValue: "b6c5a2b0-9f0e-4d3f-8f4e-2d4f0a7d9c11",
}

// Serve is the whole main of a source's program: it answers the host's requests
// until the host is gone, and ends the program. Started by hand it says what it
// is, and exits with code 2.
func Serve(open sources.Open) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s is a data source of penstock, which starts it itself: name it in a source's address, as in\n  penstock catalog 'plugin:%s'\n", os.Args[0], os.Args[0])
		os.Exit(2)
	}
	go watchParent(os.Getppid())
	s := &server{open: open, stderr: os.Stderr}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         plugin.PluginSet{"source": &service{server: s}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}),
				grpc.MaxRecvMsgSize(maxRequest), grpc.WriteBufferSize(256<<10), grpc.ReadBufferSize(256<<10))...)
		},
		// What keeps a plugin from being served is told nowhere else.
		Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error, DisableTime: true}),
	})
	os.Exit(0)
}

// watchParent ends the process when its host is gone. On Linux the kernel does,
// at once; this is for the others, and for what slips through.
func watchParent(parent int) {
	for range time.Tick(500 * time.Millisecond) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// service registers the source with go-plugin's server.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCClient makes this a plugin of go-plugin's that speaks gRPC; nobody calls
// it.
func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// GRPCServer is go-plugin's hook.
func (s *service) GRPCServer(_ *plugin.GRPCBroker, to *grpc.Server) error {
	flight.RegisterFlightServiceServer(to, s.server)
	return nil
}
