// Text of others that goes to a terminal: it must not move the cursor, set the title, or forge a line.
import { stripVTControlCharacters } from 'node:util';

/** One line, without escape sequences; a tab stays, any other control character is a space. */
export function plainText(text: string): string {
  return stripVTControlCharacters(text).replace(/[^\P{Cc}\t]/gu, ' ');
}
