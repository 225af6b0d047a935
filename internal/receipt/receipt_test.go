package receipt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
)

func TestReceipt_LeavesOutWhatIsNotKnown(t *testing.T) {
	data, err := receipt.Receipt{WorkflowID: "register/m/1", State: receipt.Waiting, Waiting: &receipt.Wait{Layer: "tcp"}}.JSON()
	require.NoError(t, err)
	require.JSONEq(t, `{"workflow_id": "register/m/1", "state": "waiting", "waiting": {"layer": "tcp"}}`, string(data))
}
