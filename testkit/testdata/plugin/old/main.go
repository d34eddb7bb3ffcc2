// Command old is a plugin that speaks the previous version of the protocol.
package main

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/penstock-data/penstock/sources/serve"
	"github.com/penstock-data/penstock/sources/wire"
)

type old struct {
	plugin.NetRPCUnsupportedPlugin
	flight.BaseFlightServer
}

func (o *old) GRPCServer(_ *plugin.GRPCBroker, to *grpc.Server) error {
	flight.RegisterFlightServiceServer(to, o)
	return nil
}

func (o *old) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

func (o *old) DoAction(_ *flight.Action, to flight.FlightService_DoActionServer) error {
	b, err := wire.MarshalReply(wire.Reply{Version: wire.Version - 1})
	if err != nil {
		return err
	}
	return to.Send(&flight.Result{Body: b})
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: serve.Handshake,
		Plugins:         plugin.PluginSet{"source": &old{}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}
