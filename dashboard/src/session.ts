/** Whether a key must be typed first. The key itself lives in a cookie that scripts cannot read. */

import { reactive } from "vue";

export const session = reactive({
  needed: false,
  /** Grows with each sign-in, so that whoever waits for one can start again. */
  entered: 0,
});

export function enter(): void {
  session.needed = false;
  session.entered += 1;
}
