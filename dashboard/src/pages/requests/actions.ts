/** Ending a request that is in flight. */

import { part, reasonOf, remove } from "../../api";
import { confirm } from "../../confirm";
import { toast } from "../../toast";
import type { RequestRow } from "../../types";

export async function cancel(row: RequestRow): Promise<void> {
  const yes = await confirm({
    title: "Cancel this request?",
    text: `${row.client} asked ${row.model ?? "no model"} for ${row.endpoint}. It gets an error, or where the answer has begun, a stream that ends with one.`,
    action: "Cancel the request",
    dangerous: true,
  });
  if (!yes) return;
  try {
    const { cancelled } = await remove<{ cancelled: number }>(`api/requests/${part(row.id)}`);
    toast(cancelled === 1 ? "The request was cancelled" : `${cancelled} requests of this name were cancelled`);
  } catch (error) {
    toast(reasonOf(error), "failed");
  }
}
