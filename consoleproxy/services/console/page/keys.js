// Keys that a browser or a phone cannot send by itself, and keyboards of guests for text that is typed for the user.
import KeyTable from "/console/novnc/core/input/keysym.js";
import keysyms from "/console/novnc/core/input/keysymdef.js";

// name -> [keysym, DOM code of the key's place]
export const KEYS = {
  Ctrl: [KeyTable.XK_Control_L, "ControlLeft"],
  Alt: [KeyTable.XK_Alt_L, "AltLeft"],
  AltGr: [KeyTable.XK_ISO_Level3_Shift, "AltRight"],
  Shift: [KeyTable.XK_Shift_L, "ShiftLeft"],
  Super: [KeyTable.XK_Super_L, "MetaLeft"],
  Esc: [KeyTable.XK_Escape, "Escape"],
  Tab: [KeyTable.XK_Tab, "Tab"],
  Enter: [KeyTable.XK_Return, "Enter"],
  "⌫": [KeyTable.XK_BackSpace, "Backspace"],
  Del: [KeyTable.XK_Delete, "Delete"],
  Ins: [KeyTable.XK_Insert, "Insert"],
  Home: [KeyTable.XK_Home, "Home"],
  End: [KeyTable.XK_End, "End"],
  PgUp: [KeyTable.XK_Page_Up, "PageUp"],
  PgDn: [KeyTable.XK_Page_Down, "PageDown"],
  "←": [KeyTable.XK_Left, "ArrowLeft"],
  "↑": [KeyTable.XK_Up, "ArrowUp"],
  "↓": [KeyTable.XK_Down, "ArrowDown"],
  "→": [KeyTable.XK_Right, "ArrowRight"],
  PrtSc: [KeyTable.XK_Print, "PrintScreen"],
  Pause: [KeyTable.XK_Pause, "Pause"],
  Menu: [KeyTable.XK_Menu, "ContextMenu"],
};
for (let number = 1; number <= 12; number++) KEYS[`F${number}`] = [KeyTable[`XK_F${number}`], `F${number}`];
for (const letter of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") KEYS[letter] = [letter.toLowerCase().charCodeAt(0), `Key${letter}`];

export const HELD = ["Ctrl", "Alt", "AltGr", "Shift", "Super"];
export const PRESSES = [
  "Esc", "Tab", "Enter", "⌫", "Del", "Ins", "Home", "End", "PgUp", "PgDn", "←", "↑", "↓", "→",
  "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12", "PrtSc", "Pause", "Menu",
];
export const STRIP = ["Esc", "Tab", "Ctrl", "Alt", "←", "↑", "↓", "→", "Home", "End", "PgUp", "PgDn", "Del", "F1", "F2", "F10", "F12"];
export const CHORDS = ["Alt Tab", "Alt F4", "Ctrl Alt F1", "Ctrl Alt F2", "Ctrl Alt F7", "Super R", "Super L", "Ctrl Esc", "Alt PrtSc"];

// The places of the keys that bear characters, row by row.
const PLACES = [
  "Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal IntlYen",
  "KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Backslash",
  "KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote",
  "IntlBackslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash IntlRo",
].join(" ").split(" ");

// What these keys bear: alone, with Shift, with AltGr. A space stands for nothing. Keys that only begin an accent are left out.
const LAYOUTS = {
  us: ["English (US)", "`1234567890-= qwertyuiop[]\\asdfghjkl;' zxcvbnm,./ ", '~!@#$%^&*()_+ QWERTYUIOP{}|ASDFGHJKL:" ZXCVBNM<>? ', ""],
  gb: ["English (UK)", "`1234567890-= qwertyuiop[]#asdfghjkl;'\\zxcvbnm,./ ", '¬!"£$%^&*()_+ QWERTYUIOP{}~ASDFGHJKL:@|ZXCVBNM<>? ', "    €"],
  de: ["Deutsch", " 1234567890ß  qwertzuiopü+#asdfghjklöä<yxcvbnm,.- ", "°!\"§$%&/()=?  QWERTZUIOPÜ*'ASDFGHJKLÖÄ>YXCVBNM;:_ ", "  ²³   {[]}\\  @ €        ~            |      µ"],
  fr: ["Français", "²&é\"'(-è_çà)= azertyuiop $*qsdfghjklmù<wxcvbn,;:! ", " 1234567890°+ AZERTYUIOP £µQSDFGHJKLM%>WXCVBN?./§ ", "   #{[| \\ @]}   €"],
  es: ["Español", "º1234567890'¡ qwertyuiop +çasdfghjklñ <zxcvbnm,.- ", 'ª!"·$%&/()=?¿ QWERTYUIOP *ÇASDFGHJKLÑ >ZXCVBNM;:_ ', "\\|@#  ¬         €       []}          {"],
  jp: ["日本語", " 1234567890-^\\qwertyuiop@[]asdfghjkl;: zxcvbnm,./\\", " !\"#$%&'() =~|QWERTYUIOP`{}ASDFGHJKL+* ZXCVBNM<>?_", ""],
};

export const layoutNames = Object.entries(LAYOUTS).map(([id, [name]]) => [id, name]);

function charactersOf(layout) {
  const found = new Map();
  LAYOUTS[layout].slice(1).forEach((level, number) => {
    [...level].forEach((character, place) => {
      if (character !== " " && !found.has(character)) found.set(character, [PLACES[place], number]);
    });
  });
  found.set(" ", ["Space", 0]);
  return found;
}

// A key's press and release, as [keysym, code, down] each, for every character of a text on a guest's keyboard.
export function strokes(text, layout) {
  const known = charactersOf(layout);
  const made = [];
  for (const character of text.replace(/\r\n?/g, "\n")) {
    if (character === "\n" || character === "\t") {
      const [keysym, code] = KEYS[character === "\n" ? "Enter" : "Tab"];
      made.push([keysym, code, true], [keysym, code, false]);
      continue;
    }
    const keysym = keysyms.lookup(character.codePointAt(0));
    const [code, level] = known.get(character) ?? [null, 0];
    const modifier = [null, KEYS.Shift, KEYS.AltGr][level];
    if (modifier) made.push([...modifier, true]);
    made.push([keysym, code, true], [keysym, code, false]);
    if (modifier) made.push([...modifier, false]);
  }
  return made;
}
