// An answer that comes as lines.
import { ServiceRefused } from './service.ts';

const MAX_LINE_CHARACTERS = 64 * 1024 * 1024;

/** Each without its line break; reads the body to its end or cancels it. Where the connection breaks it throws ServiceRefused, with `advice`. */
export async function* linesOf({ body, url }: Response, advice: string): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of body ?? []) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE_CHARACTERS) throw new Error(`a line has more than ${MAX_LINE_CHARACTERS} characters`);
      yield* lines;
    }
  } catch (cause) {
    throw new ServiceRefused(`${new URL(url).host} broke off: ${advice}`, { cause, isPassing: true });
  }
  if (rest !== '') yield rest;
}
