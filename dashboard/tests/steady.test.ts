import { mount } from "@vue/test-utils";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { nextTick } from "vue";
import Steady from "../src/components/Steady.vue";

let height = 0;
let width = 100;
let look: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("ResizeObserver", class {
    constructor(seen: () => void) {
      look = seen;
    }
    observe = (): void => undefined;
    disconnect = (): void => undefined;
  });
  vi.spyOn(HTMLElement.prototype, "offsetHeight", "get").mockImplementation(() => height);
  vi.spyOn(HTMLElement.prototype, "offsetWidth", "get").mockImplementation(() => width);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("grows at once, and shrinks when nothing has filled it for a while", async () => {
  const steady = mount(Steady, { slots: { default: "rows" } });
  async function kept(now: number, later = 0): Promise<string> {
    height = now;
    look();
    vi.advanceTimersByTime(later);
    await nextTick();
    return (steady.element as HTMLElement).style.minHeight;
  }
  expect(await kept(200)).toBe("200px");
  expect(await kept(60, 19_000)).toBe("200px");
  expect(await kept(200)).toBe("200px");
  expect(await kept(100, 19_000)).toBe("200px");
  expect(await kept(60, 2_000)).toBe("60px");
  expect(await kept(300)).toBe("300px");
  width = 200;
  expect(await kept(60)).toBe("60px");
});
