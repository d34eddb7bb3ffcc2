//go:build !wasip1 && !js

// Package serve runs a source as a program of its own. The main function of a plugin
// is
//
//	func main() { serve.Serve(csv.Open) }
//
// On this platform, the program is a hashicorp/go-plugin process that speaks Arrow
// Flight. Built for wasip1, it is a WASI command. Package wire defines the protocol of
// both.
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

// Handshake is the go-plugin handshake of host and plugin. Its version is that of the
// handshake only; the open request has the version of the protocol.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "PENSTOCK_PLUGIN",
	MagicCookieValue: "b6c5a2b0-9f0e-4d3f-8f4e-2d4f0a7d9c11",
}

// Serve answers the host's requests until the host exits, and then exits the program.
// If the program was not started by a host, Serve prints an explanation and exits with
// code 2.
func Serve(open sources.Open) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s is a data source that penstock starts itself: use it in the address of a source, as in\n  penstock catalog 'plugin:%s'\n", os.Args[0], os.Args[0])
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
		// Errors that prevent serving are reported only here.
		Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error, DisableTime: true}),
	})
	os.Exit(0)
}

// watchParent exits the process when the host has exited. On Linux the kernel usually
// does that; this covers other systems and races.
func watchParent(parent int) {
	for range time.Tick(500 * time.Millisecond) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// service registers the server with go-plugin.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCClient is required by go-plugin and never called.
func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// GRPCServer is called by go-plugin.
func (s *service) GRPCServer(_ *plugin.GRPCBroker, to *grpc.Server) error {
	flight.RegisterFlightServiceServer(to, s.server)
	return nil
}
