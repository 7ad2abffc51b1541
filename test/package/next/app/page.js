"use client";
import * as downhill from "downhill";
import { useEffect, useState } from "react";
import { train } from "../train.mjs";

export default function Page() {
  const [text, setText] = useState("");
  useEffect(() => {
    globalThis.report = train(downhill).catch(String);
    globalThis.report.then(setText);
  }, []);
  return <p>{text}</p>;
}
