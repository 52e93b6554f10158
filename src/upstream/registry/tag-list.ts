// Lists of tags: streamed, since they may be large, and paged, by the upstream or, where it does not page, by us.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { Tokenizer, TokenParser, TokenType } from '@streamparser/json';
import type { Dispatcher } from 'undici';
import { RegistryError } from '../../oci/errors.ts';
import { badAnswer, type RequestContext, TooLong } from '../failure.ts';
import { encodedFault, findCoding } from '../transport/response.ts';
import type { TagList, TagPage } from '../upstream.ts';

/** The size of lists from registries that do not page, with all their details of each tag. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;
const MAX_TAG_LENGTH = 128;
/** For the query of the next page. */
export const MAX_QUERY_LENGTH = 2048;

/**
 * The tags of an answer; null means none, and invalid tags are dropped. Throws 502 for anything but a list, an error of the connection, or
 * TooLong.
 */
export async function readTags(response: Dispatcher.ResponseData, attempt: RequestContext): Promise<readonly string[]> {
  const tags: string[] = [];
  const parser = createParser(value => {
    if (typeof value === 'string' && value.length <= MAX_TAG_LENGTH) tags.push(value);
  });
  let bytes = 0;
  let start = '';
  for await (const chunk of response.body) {
    bytes += chunk.byteLength;
    if (bytes > MAX_LIST_BYTES) throw new TooLong(`more than ${MAX_LIST_BYTES} bytes`);
    const part: Uint8Array = start === '' ? withoutMark(chunk) : chunk;
    start ||= Buffer.from(part.subarray(0, 1024)).toString().trimStart().charAt(0);
    if (!parse(parser, part) || (start !== '' && start !== '{')) throw noList(response, attempt);
  }
  if (!parser.isEnded) throw noList(response, attempt);
  return tags;
}

/** A byte order mark is not part of the text. */
function withoutMark(chunk: Uint8Array): Uint8Array {
  return chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf ? chunk.subarray(3) : chunk;
}

/** The list, and what is in it. */
const MAX_DEPTH = 2;
const OPENING: readonly TokenType[] = [TokenType.LEFT_BRACE, TokenType.LEFT_BRACKET];
const CLOSING: readonly TokenType[] = [TokenType.RIGHT_BRACE, TokenType.RIGHT_BRACKET];

/** Emits the members of `tags`. Values nested in them count as null, however deep, and take no memory. */
function createParser(onTag: (value: unknown) => void): Tokenizer {
  const tokenizer = new Tokenizer();
  const parser = new TokenParser({ paths: ['$.tags.*'], keepStack: false });
  let depth = 0;
  parser.onValue = ({ value }) => onTag(value);
  parser.onEnd = () => tokenizer.isEnded || tokenizer.end();
  tokenizer.onEnd = () => parser.isEnded || parser.end();
  tokenizer.onToken = given => {
    const isOpening = OPENING.includes(given.token);
    if (isOpening && depth === MAX_DEPTH) parser.write({ token: TokenType.NULL, value: null });
    else if (depth <= MAX_DEPTH) parser.write(given);
    if (isOpening) depth += 1;
    else if (CLOSING.includes(given.token)) depth -= 1;
  };
  return tokenizer;
}

function parse(parser: Tokenizer, chunk: Uint8Array): boolean {
  try {
    parser.write(chunk);
    return true;
  } catch {
    // The cause would quote the answer, which may contain what we sent.
    return false;
  }
}

function noList({ headers }: Dispatcher.ResponseData, attempt: RequestContext): RegistryError {
  const coding = findCoding(headers);
  return badAnswer(attempt, coding ? encodedFault(coding) : 'the answer is not a list of tags');
}

/** The answer of an upstream without further pages: the requested page, or all tags, from which the page is made here. */
export function pageOf(sent: readonly string[], page: TagPage): TagList {
  const { n, last } = page;
  const isPage = (n === undefined || sent.length <= n) && (last === undefined || !sent.includes(last));
  return isPage ? { tags: sent, hasMore: false } : pageOfAll(sent, page);
}

/** We sort: a page begins after `last`, whether or not that exists. */
export function pageOfAll(all: readonly string[], { n, last }: TagPage): TagList {
  const rest = [...new Set(all)].sort().filter(tag => last === undefined || tag > last);
  const tags = rest.slice(0, n);
  return { tags, hasMore: tags.length > 0 && tags.length < rest.length };
}

/** Next pages with an upstream's own query, as sealed for a client: it can only return what it was given, for the same list. */
export interface NextPages {
  /** `list` is the upstream and the repository. */
  seal(list: string, query: string): string;
  /** The query. Throws 400 for anything that was not sealed for this list since the start. */
  open(list: string, next: string): string;
}

export function createNextPages(): NextPages {
  const key = randomBytes(32);
  const sign = (list: string, query: string) =>
    createHmac('sha256', key)
      .update(JSON.stringify([list, query]))
      .digest()
      .subarray(0, 16);
  return {
    seal(list, query) {
      return `${Buffer.from(query).toString('base64url')}.${sign(list, query).toString('base64url')}`;
    },
    open(list, next) {
      const [text = '', signature = ''] = next.slice(0, 2 * MAX_QUERY_LENGTH).split('.', 2);
      const query = Buffer.from(text, 'base64url').toString();
      const [given, own] = [Buffer.from(signature, 'base64url'), sign(list, query)];
      if (given.byteLength === own.byteLength && timingSafeEqual(given, own)) return query;
      const reason =
        'next: this page token is not valid for this list, or no longer valid after a restart; list the tags from the start';
      throw new RegistryError('UNSUPPORTED', reason, { status: 400 });
    },
  };
}
