import { createApp } from "vue";
import App from "./App.vue";
import { startKeyboard } from "./keyboard";
import { store } from "./live";
import { startRouter } from "./router";
import "./styles/tokens.css";
import "./styles/base.css";
import { startNotifications } from "./notify";
import { startTheme } from "./theme";

startTheme();
startRouter();
startKeyboard();
createApp(App).mount("#app");
store.start();
startNotifications();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) store.retry();
});
