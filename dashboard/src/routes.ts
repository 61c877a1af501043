/** Every page, in the order of the navigation. A new page is one line here and one file in `pages/`. */

import { type Component, defineAsyncComponent } from "vue";
import type { IconName } from "./components/icons";

export interface Route {
  /** The last part of the address; the gateway's `server/page.py` knows the same names. */
  name: string;
  title: string;
  icon: IconName;
  /** The key after `g`. */
  key: string;
  /** In the bar at the bottom of a phone; all others are behind "More". */
  primary?: boolean;
  page: Component;
}

const lazy = (load: () => Promise<{ default: Component }>): Component =>
  defineAsyncComponent({ loader: load, delay: 0 });

export const ROUTES: readonly Route[] = [
  { name: "dashboard", title: "Dashboard", icon: "gauge", key: "d", primary: true,
    page: lazy(() => import("./pages/Dashboard.vue")) },
  { name: "models", title: "Models", icon: "cube", key: "m", primary: true,
    page: lazy(() => import("./pages/Models.vue")) },
  { name: "requests", title: "Requests", icon: "arrows", key: "r", primary: true,
    page: lazy(() => import("./pages/Requests.vue")) },
  { name: "monitoring", title: "Monitoring", icon: "pulse", key: "n",
    page: lazy(() => import("./pages/Monitoring.vue")) },
  { name: "logs", title: "Logs", icon: "list", key: "l",
    page: lazy(() => import("./pages/Logs.vue")) },
  { name: "chat", title: "Chat", icon: "chat", key: "c", primary: true,
    page: lazy(() => import("./pages/Chat.vue")) },
  { name: "deploy", title: "Deploy", icon: "download", key: "e",
    page: lazy(() => import("./pages/Deploy.vue")) },
  { name: "connect", title: "Connect", icon: "plug", key: "o",
    page: lazy(() => import("./pages/Connect.vue")) },
  { name: "configuration", title: "Configuration", icon: "sliders", key: "f",
    page: lazy(() => import("./pages/Configuration.vue")) },
  { name: "settings", title: "Settings", icon: "cog", key: "s",
    page: lazy(() => import("./pages/Settings.vue")) },
];
