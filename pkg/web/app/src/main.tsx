import { render } from "preact";
import { App } from "./app";
import { learn } from "./session";
import { listen } from "./store";
import "./style/base.css";
import "./style/views.css";

render(<App />, document.getElementById("app")!);
void learn();
listen();
