package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"registrar/internal/receipt"
)

// WriteReceiptInput is the receipt of a registration that ended.
type WriteReceiptInput struct {
	Project Project         `json:"project"`
	Receipt receipt.Receipt `json:"receipt"`
}

// WriteReceipt writes receipt.json into the registration folder and beside it, and removes the folder's copy of the model. May be repeated.
func (a *Activities) WriteReceipt(ctx context.Context, in WriteReceiptInput) error {
	folder, err := a.folder(in.Project)
	if err != nil {
		return classify(ctx, err)
	}
	defer folder.Close()
	data, err := in.Receipt.JSON()
	if err != nil {
		return classify(ctx, err)
	}
	if err := folder.WriteReceipt(data); err != nil {
		return classify(ctx, err)
	}
	return classify(ctx, folder.RemoveModel(ctx, activity.GetInfo(ctx).WorkflowExecution.RunID))
}
