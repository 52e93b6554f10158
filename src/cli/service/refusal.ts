// An answer that is no success, as one line for people.
import { z } from 'zod';
import { plainText } from '../plain-text.ts';
import { ServiceRefused } from './service.ts';

/** What would help, by status. */
export type Hints = Readonly<Record<number, string>>;

const MAX_BODY_CHARACTERS = 64 * 1024;
const MAX_MESSAGE_CHARACTERS = 500;

/** The augment API's form of an error, and the registry's. */
const errorSchema = z.union([
  z.object({ message: z.string() }),
  z
    .object({ errors: z.array(z.object({ message: z.string() })).min(1) })
    .transform(({ errors }) => ({ message: errors.map(({ message }) => message).join('; ') })),
]);

/** Reads the answer's body to its end, or cancels it. */
export async function refusalOf(response: Response, hints: Hints = {}): Promise<ServiceRefused> {
  const { status, statusText, url, headers } = response;
  const said = messageOf(await readStart(response)) ?? statusText;
  const retryAfter = /^\d{1,9}$/.exec(headers.get('Retry-After') ?? '')?.[0];
  const hint = retryAfter === undefined ? hints[status] : `try again in ${retryAfter} s`;
  const text = [`${new URL(url).host} says ${status}`, said && `, ${said}`, hint && `: ${hint}`].filter(Boolean);
  return new ServiceRefused(text.join(''), { isPassing: status === 429 || status >= 500 });
}

async function readStart({ body }: Response): Promise<string> {
  let text = '';
  try {
    for await (const part of body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += part;
      if (text.length > MAX_BODY_CHARACTERS) break;
    }
  } catch {
    // What arrived before the connection broke has to do.
  }
  return text;
}

function messageOf(text: string): string | undefined {
  const { data } = errorSchema.safeParse(parseJson(text));
  return data && plainText(data.message).slice(0, MAX_MESSAGE_CHARACTERS);
}

/** Undefined for what is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
