package main

import (
	"context"
	"sync/atomic"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"

	"registrar/workflows"
)

// searchAttributes sees that the namespace has the registrations' attributes. Without them registrations work all the same, and say in
// their memo what they would say there.
type searchAttributes struct {
	namespace string
	log       *zap.Logger
	there     atomic.Bool // all but the server's
	server    atomic.Bool
}

func (s *searchAttributes) present() bool { return s.there.Load() }

func (s *searchAttributes) serverPresent() bool { return s.server.Load() }

// attributesWithin is how long a worker's start is held up for new attributes: Temporal needs about a second to take them in,
// and more where it has much else to do.
const attributesWithin = 15 * time.Second

// ensure adds what is missing and reads back, since a name that is there with another type is accepted silently.
func (s *searchAttributes) ensure(ctx context.Context, temporalClient client.Client) {
	ctx, cancel := context.WithTimeout(ctx, attributesWithin)
	defer cancel()
	missing, err := s.missing(ctx, temporalClient)
	if err == nil && len(missing) > 0 {
		_, err = temporalClient.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: s.namespace, SearchAttributes: missing,
		})
		for err == nil && len(missing) > 0 {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			var still map[string]enums.IndexedValueType
			if still, err = s.missing(ctx, temporalClient); err == nil {
				missing = still
			}
		}
	}
	_, lacksServer := missing[workflows.AttributeServer]
	s.server.Store(missing != nil && !lacksServer)
	s.there.Store(missing != nil && (len(missing) == 0 || len(missing) == 1 && lacksServer))
	if err == nil {
		return
	}
	s.log.Warn("the namespace lacks search attributes: registrations show their state in the memo; to add them: "+
		workflows.SearchAttributesCommand(s.namespace, workflows.SearchAttributes()),
		zap.String("namespace", s.namespace), zap.Error(err))
}

func (s *searchAttributes) missing(ctx context.Context, temporalClient client.Client) (map[string]enums.IndexedValueType, error) {
	listed, err := temporalClient.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.namespace})
	if err != nil {
		return nil, err
	}
	return workflows.MissingSearchAttributes(listed.GetCustomAttributes()), nil
}
