"use strict";
(() => {
  const PAGE = 200;
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (name) => document.getElementById(name);
  const chosen = (name) => (find(name) ? find(name).value : "");
  const columns = Object.fromEntries(data.columns.map((name, at) => [name, at]));
  const rows = data.rows.map((row) => ({ row, text: row[columns.explanation].toLowerCase() }));
  let matching = [];
  let shown = 0;

  const percent = (share) => (share === 0 ? "dead" : `${Number((100 * share).toPrecision(2))} %`);
  const cell = (text, kind) => {
    const made = document.createElement("td");
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const within = {
    words(entry) {
      const wanted = chosen("words").trim().toLowerCase();
      if (!wanted) return true;
      if (/^#?\d+$/.test(wanted)) return String(entry.row[columns.latent]) === wanted.replace("#", "");
      return wanted.split(/\s+/).every((word) => entry.text.includes(word));
    },
    density(entry) {
      const value = chosen("density");
      if (!value) return true;
      const [low, high] = value.split(",").map(Number);
      const density = entry.row[columns.density];
      return high === 0 ? density === 0 : density >= low && density < high;
    },
    score(entry) {
      const value = chosen("score");
      const score = entry.row[columns.score];
      if (!value) return true;
      if (value === "none") return score === null;
      if (score === null) return false;
      return value === "below" ? score < 0.6 : score >= Number(value);
    },
    group(entry) {
      const value = chosen("group");
      return !value || entry.row[columns.group] === Number(value);
    },
  };

  const ordered = (entries) => {
    const order = chosen("order");
    const sign = order.startsWith("-") ? -1 : 1;
    const at = columns[order.replace("-", "")];
    // What has no score comes last, whichever way the others go.
    const key = (entry) => (entry.row[at] === null ? Infinity : sign * entry.row[at]);
    return entries.sort((a, b) => key(a) - key(b) || a.row[columns.latent] - b.row[columns.latent]);
  };

  const line = ({ row }) => {
    const made = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const link = document.createElement("a");
    link.href = `latents/${row[columns.latent]}.html`;
    link.textContent = row[columns.latent];
    head.append(link);
    made.append(head, cell(row[columns.explanation], "text"));
    if (data.score) made.append(cell(row[columns.score] === null ? "" : row[columns.score].toFixed(2), "number"));
    made.append(cell(percent(row[columns.density]), "number"), cell(String(Number(row[columns.maximum].toPrecision(3))), "number"));
    return made;
  };

  const more = () => {
    find("rows").append(...matching.slice(shown, shown + PAGE).map(line));
    shown = Math.min(matching.length, shown + PAGE);
    find("more").hidden = shown === matching.length;
    const which = matching.length === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
    const noun = matching.length === 1 && !which ? "latent" : "latents";
    find("found").textContent = `${matching.length.toLocaleString("en")}${which} ${noun}`
      + (shown < matching.length ? `; the first ${shown} are listed` : "");
  };

  const renew = () => {
    matching = ordered(rows.filter((entry) => Object.values(within).every((holds) => holds(entry))));
    shown = 0;
    find("rows").replaceChildren();
    more();
  };

  find("filters").addEventListener("input", renew);
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("more").addEventListener("click", more);
  renew();
})();
