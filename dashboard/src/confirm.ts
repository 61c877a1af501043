/** Ask before something is done that cannot be taken back. `ConfirmDialog.vue` shows the question. */

import { shallowRef } from "vue";

export interface Question {
  title: string;
  /** What follows from it: names what is in flight. */
  text: string;
  action: string;
  dangerous?: boolean;
  /** Something more that may be chosen; the answer is left in `chosen`. */
  option?: { label: string; chosen: boolean };
}

interface Asked extends Question {
  answer: (yes: boolean) => void;
}

export const asked = shallowRef<Asked | null>(null);

export function confirm(question: Question): Promise<boolean> {
  asked.value?.answer(false);
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer(yes) {
        asked.value = null;
        resolve(yes);
      },
    };
  });
}
